/** The network between a page and its gateway: it can balance, drop and hold back data. */

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type Ended, portOf } from "./processes.js";

interface Pair {
  page: Socket;
  gateway: Socket;
  /** All data is dropped, and neither side notices. */
  isDead: boolean;
}

export class Network implements Ended {
  /** The number of connections so far. */
  opened = 0;
  #server: Server;
  #targets: readonly number[];
  #pairs = new Set<Pair>();
  #pages = new Set<Socket>();
  #held: (() => void)[] | undefined;

  private constructor(server: Server, targets: readonly number[]) {
    this.#server = server;
    this.#targets = targets;
  }

  /** A load balancer for these ports: a request goes to the first one that does not answer 503. */
  static async start(...targets: number[]): Promise<Network> {
    const server = createServer({ allowHalfOpen: false }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const network = new Network(server, targets);
    server.on("connection", (page) => network.#onConnection(page));
    return network;
  }

  get url(): string {
    return `ws://127.0.0.1:${portOf(this.#server)}/ws`;
  }

  #onConnection(page: Socket): void {
    this.opened++;
    this.#pages.add(page);
    page.on("close", () => this.#pages.delete(page)).on("error", () => {});
    this.#reach(page, this.#targets);
  }

  #reach(page: Socket, [target, ...others]: readonly number[], request: Buffer[] = []): void {
    if (target === undefined) return void page.destroy();
    const gateway = connect({ port: target, host: "127.0.0.1" });
    const ask = (data: Buffer): void => {
      request.push(data);
      gateway.write(data);
    };
    const stopAsking = (): void => {
      page.off("data", ask);
      gateway.off("close", refused);
    };
    const refused = (): void => {
      stopAsking();
      gateway.destroy();
      if (!page.destroyed) this.#reach(page, others, request);
    };
    for (const data of request) gateway.write(data);
    page.on("data", ask).once("close", () => gateway.destroy());
    gateway.on("error", () => {}).once("close", refused);
    gateway.once("data", (answer: Buffer) => {
      if (answer.toString("latin1", 0, 16).startsWith("HTTP/1.1 503") && others.length) return refused();
      stopAsking();
      this.#join({ page, gateway, isDead: false });
      this.#toPage(() => page.write(answer));
    });
  }

  #join(pair: Pair): void {
    const { page, gateway } = pair;
    if (page.destroyed) return void gateway.destroy();
    this.#pairs.add(pair);
    page.setNoDelay();
    gateway.setNoDelay();
    page.on("data", (data) => pair.isDead || gateway.write(data));
    gateway.on("data", (data) => this.#toPage(() => pair.isDead || page.write(data)));
    gateway.on("error", () => {}).on("close", () => this.#toPage(() => pair.isDead || page.destroy()));
    page.on("close", () => {
      this.#pairs.delete(pair);
      gateway.destroy();
    });
  }

  #toPage(step: () => void): void {
    if (this.#held) this.#held.push(step);
    else step();
  }

  /** The open connections are dead from now on, as after leaving the Wi-Fi: neither side notices. */
  swallow(): void {
    for (const pair of this.#pairs) pair.isDead = true;
  }

  /** Hold back what the gateways send, until `release` delivers all of it at once. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const step of held) step();
  }

  async end(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const page of this.#pages) page.destroy();
    await closed;
  }
}
