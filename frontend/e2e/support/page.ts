/** The test page in a real browser: built once, served, opened, watched. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Page, WebSocket as PageSocket } from "playwright-core";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { build } from "vite";
import type { ClientMessage } from "../../src/core.js";
import { App, type AppProps } from "../app/App.js";
import type { PanelRecord, Records } from "../app/records.js";
import { type Ended, portOf } from "./processes.js";
import { until } from "./wait.js";

const APP = fileURLToPath(new URL("../app/", import.meta.url));

/** Build with the development version of React: only that mounts twice in StrictMode, and warns. */
async function bundle(): Promise<string> {
  const built = await build({
    configFile: false,
    root: APP,
    mode: "development",
    logLevel: "error", // it warns of "use client", which a page does not need
    define: { "process.env.NODE_ENV": JSON.stringify("development") },
    build: { write: false, minify: false, modulePreload: false, rolldownOptions: { input: `${APP}main.tsx` } },
  });
  const [one] = Array.isArray(built) ? built : [built];
  if (!one || !("output" in one)) throw new Error("Vite returned a watcher, not a build");
  return one.output[0].code;
}

const html = (content: string): string => `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>Test page</title></head>
  <body><div id="root">${content}</div><script type="module" src="/app.js"></script></body>
</html>`;

/** Serves the test page. An upgrade gets the page too, as from a static host, or is passed to a port. */
export class PageServer implements Ended {
  /** The port to which upgrades are passed. */
  gatewayPort: number | undefined;
  /** The paths of all upgrades. */
  readonly upgrades: string[] = [];
  #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on("upgrade", (request, socket, head) => this.#onUpgrade(request, socket, head));
  }

  static async start(): Promise<PageServer> {
    const code = await bundle();
    const server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "/", "http://page");
      if (pathname === "/app.js") return response.writeHead(200, { "Content-Type": "text/javascript" }).end(code);
      if (pathname !== "/") return response.writeHead(204).end();
      const props = JSON.parse(searchParams.get("props") ?? "{}") as AppProps;
      const content = searchParams.has("rendered") ? renderToString(createElement(App, props)) : "";
      const csp = searchParams.get("csp");
      if (csp) response.setHeader("Content-Security-Policy", csp);
      response.writeHead(200, { "Content-Type": "text/html" }).end(html(content));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new PageServer(server);
  }

  get host(): string {
    return `127.0.0.1:${portOf(this.#server)}`;
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.upgrades.push(request.url ?? "");
    socket.on("error", () => {});
    if (this.gatewayPort === undefined) {
      socket.end(`HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n${html("A page")}`);
      return;
    }
    const gateway = connect(this.gatewayPort, "127.0.0.1").on("error", () => socket.destroy());
    const headers = request.rawHeaders.reduce((text, word, i) => `${text}${word}${i % 2 ? "\r\n" : ": "}`, "");
    gateway.write(`GET ${request.url} HTTP/1.1\r\n${headers}\r\n`);
    gateway.write(head);
    gateway.pipe(socket).pipe(gateway);
  }

  async end(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

export interface OpenOptions {
  /** A control: the client without its wake. */
  isDeaf?: boolean;
  /** Rendered by the server, hydrated in the browser. */
  isRendered?: boolean;
  /** Make each wait of the back-off as long as possible. */
  isUnlucky?: boolean;
  /** The page's Content-Security-Policy. */
  csp?: string;
  /** The test controls the page's timers, with `page.clock`. */
  hasOwnClock?: boolean;
}

/** One socket of a page, as the browser saw it. */
export interface Socket {
  readonly url: string;
  readonly sent: ClientMessage[];
  readonly received: string[];
  isOpen: boolean;
}

// The browser itself reports each failed connection; a page cannot prevent it.
const NOISE = /^WebSocket connection to '[^']*' failed/;

/** One tab with the test page. */
export class TestPage {
  readonly page: Page;
  /** All sockets so far, the oldest first. */
  readonly sockets: Socket[] = [];
  /** Errors and warnings that no page should have. */
  readonly problems: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on("websocket", (socket) => this.#onSocket(socket));
    page.on("pageerror", (error) => this.problems.push(`uncaught: ${error.stack ?? error}`));
    page.on("console", (message) => {
      const text = message.text();
      const isProblem = ["error", "warning", "assert"].includes(message.type());
      if (isProblem && !NOISE.test(text)) this.problems.push(`${message.type()}: ${text}`);
    });
  }

  #onSocket(socket: PageSocket): void {
    const seen: Socket = { url: socket.url(), sent: [], received: [], isOpen: true };
    this.sockets.push(seen);
    socket.on("framesent", ({ payload }) => seen.sent.push(JSON.parse(String(payload))));
    socket.on("framereceived", ({ payload }) => seen.received.push(String(payload)));
    socket.on("close", () => {
      seen.isOpen = false;
    });
  }

  async open(host: string, props: AppProps, options: OpenOptions): Promise<void> {
    const query = new URLSearchParams({ props: JSON.stringify(props) });
    if (options.isDeaf) query.set("deaf", "");
    if (options.isRendered) query.set("rendered", "");
    if (options.csp) query.set("csp", options.csp);
    if (options.hasOwnClock) await this.page.clock.install();
    if (options.isUnlucky) {
      await this.page.addInitScript(() => {
        Math.random = () => 0.999;
      });
    }
    await this.page.goto(`http://${host}/?${query}`);
  }

  /** All sent messages of one type, on all sockets. */
  sent(type: ClientMessage["type"]): ClientMessage[] {
    return this.sockets.flatMap(({ sent }) => sent.filter((message) => message.type === type));
  }

  get openSockets(): Socket[] {
    return this.sockets.filter(({ isOpen }) => isOpen);
  }

  /** Show the page with some props changed. */
  async show(changed: AppProps): Promise<void> {
    await this.page.evaluate((props) => show(props), changed);
  }

  // As JSON, in which "__proto__" is an ordinary key.

  async records(): Promise<Records> {
    return JSON.parse(await this.page.evaluate(() => JSON.stringify(records)));
  }

  async #find(name: string): Promise<PanelRecord | null> {
    return JSON.parse(await this.page.evaluate((one) => JSON.stringify(records.panels[one] ?? null), name));
  }

  async panel(name = "one"): Promise<PanelRecord> {
    const panel = await this.#find(name);
    if (!panel) throw new Error(`The page has no part ${name}`);
    return panel;
  }

  /** Waits for what a part of the page shows. */
  async until<T>(
    what: string,
    condition: (panel: PanelRecord) => T,
    { name = "one", within }: { name?: string; within?: number } = {},
  ): Promise<PanelRecord> {
    const check = async (): Promise<PanelRecord | null> => {
      const panel = await this.#find(name);
      return panel?.result && condition(panel) ? panel : null;
    };
    const explain = async (): Promise<unknown> => {
      const { result, log, events } = await this.panel(name);
      return { result, log: log.slice(-8), events: events.length, problems: this.problems };
    };
    return until(what, check, { ...(within === undefined ? {} : { within }), explain });
  }

  async untilStatus(status: "connecting" | "connected" | "disconnected", name = "one"): Promise<PanelRecord> {
    return this.until(`${name} is ${status}`, ({ result }) => result?.status === status, { name });
  }

  /** Waits until a part shows a job with this percent, connected. */
  async untilJob(jobId: string, percent: number, name = "one"): Promise<PanelRecord> {
    return this.until(
      `${name} shows ${jobId} at ${percent}`,
      ({ result }) => result?.jobs[jobId]?.percent === percent,
      {
        name,
      },
    );
  }
}
