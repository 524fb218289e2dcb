/** A page's own server, as far as tokens go: it makes one for whoever asks. */

import { createHmac } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Ended } from "./processes.js";

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

export class TokenServer implements Ended {
  /** The secret that the gateway shares with it. */
  static readonly SECRET = "0123456789abcdef".repeat(4);
  /** How many tokens it has made. */
  made = 0;
  #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Its tokens live for so many seconds, and cover these projects. */
  static async start(seconds: number, projects: readonly string[]): Promise<TokenServer> {
    const made = new TokenServer(createServer());
    made.#server.on("request", (_, answer) => {
      made.made++;
      const exp = Math.floor(Date.now() / 1_000) + seconds;
      const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ exp, projects, sub: "ann" })}`;
      const signature = createHmac("sha256", TokenServer.SECRET).update(signed).digest("base64url");
      answer.setHeader("Access-Control-Allow-Origin", "*");
      answer.end(`${signed}.${signature}`);
    });
    await new Promise<void>((resolve) => made.#server.listen(0, "127.0.0.1", resolve));
    return made;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  async end(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
