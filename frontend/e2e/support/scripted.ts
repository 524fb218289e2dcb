/** A server that does what a real gateway never does: it follows the protocol only as far as a test wants. */

import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { ClientMessage, ServerMessage } from "../../src/core.js";
import { type Ended, type Published, portOf } from "./processes.js";

type Sequenced = Published & { projectId: string; seq: number };

/** What happens on a connection once it is open. */
type Script = (connection: ScriptedConnection) => void;
/** What answers an upgrade instead of the WebSocket handshake. */
export type Refusal = (socket: Duplex) => unknown;

/** The server's end of one connection. */
export class ScriptedConnection {
  readonly path: string;
  /** The number of the connection to its path, from 1. */
  readonly count: number;
  readonly received: ClientMessage[] = [];
  readonly projects = new Set<string>();
  closed = false;
  #socket: WebSocket;
  #server: ScriptedGateway;

  constructor(socket: WebSocket, path: string, count: number, server: ScriptedGateway) {
    this.#socket = socket;
    this.path = path;
    this.count = count;
    this.#server = server;
    socket.on("message", (data) => {
      const message = JSON.parse(String(data)) as ClientMessage;
      this.received.push(message);
      server.note(`${this.name} ${message.type}`);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
      server.note(`${this.name} closed`);
    });
  }

  get name(): string {
    return `${this.path}#${this.count}`;
  }

  /** Send anything: an object as JSON, a string or bytes unchanged. */
  send(message: ServerMessage | object | string | Buffer): void {
    const isRaw = typeof message === "string" || Buffer.isBuffer(message);
    this.#socket.send(isRaw ? message : JSON.stringify(message));
  }

  close(code: number, reason = ""): void {
    this.#socket.close(code, reason);
  }

  /** Behave like a gateway: send `connected`, answer subscribes and pings, replay. */
  speak(): void {
    this.send({ type: "connected", clientId: this.name });
    this.#socket.on("message", (data) => {
      const message = JSON.parse(String(data)) as ClientMessage;
      if (message.type === "ping") return this.send({ type: "pong" });
      if (message.type === "auth") return this.send({ type: "authorised", expiresIn: 3_600_000 });
      const { projectId } = message;
      if (message.type === "unsubscribe") {
        this.projects.delete(projectId);
        return this.send({ type: "unsubscribed", projectId });
      }
      this.projects.add(projectId);
      const missed = this.#server.since(projectId, message.since ?? 0);
      // Of a project without events a gateway says 0: then the page waits for no replay.
      const seq = missed.at(-1)?.seq ?? message.since ?? 0;
      this.send({ type: "subscribed", projectId, seq, recovered: true });
      this.#server.note(`${this.name} subscribed`);
      for (const event of missed) this.send(event);
    });
  }
}

export class ScriptedGateway implements Ended {
  readonly connections: ScriptedConnection[] = [];
  /** What happened, in order: "/ws#1 subscribed", "/ws#1 closed", ... */
  readonly story: string[] = [];
  seq = 1_000;
  #http: Server;
  #webSockets = new WebSocketServer({ noServer: true });
  #scripts = new Map<string, Script>();
  #refusals = new Map<string, { refusal: Refusal; times: number }>();
  #attempts = new Map<string, number[]>();
  #events = new Map<string, Sequenced>();

  private constructor(http: Server) {
    this.#http = http;
    http.on("upgrade", (request, socket, head) => {
      const path = request.url ?? "";
      const attempts = this.attempts(path);
      attempts.push(performance.now());
      this.#attempts.set(path, attempts);
      this.note(`${path}#${attempts.length} attempt`);
      socket.on("error", () => {});
      const refused = this.#refusals.get(path);
      if (refused && refused.times-- > 0) return void refused.refusal(socket);
      this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
        const connection = new ScriptedConnection(webSocket, path, attempts.length, this);
        this.connections.push(connection);
        const script = this.#scripts.get(path) ?? ((one) => one.speak());
        script(connection);
      });
    });
  }

  static async start(): Promise<ScriptedGateway> {
    const http = createServer().listen(0, "127.0.0.1");
    await once(http, "listening");
    return new ScriptedGateway(http);
  }

  url(path = "/ws"): string {
    return `ws://127.0.0.1:${portOf(this.#http)}${path}`;
  }

  /** Set the script for connections to a path; without one they behave like a gateway. */
  script(path: string, script: Script): void {
    this.#scripts.set(path, script);
  }

  /** Answer the next upgrades to a path like this; later ones are accepted. */
  refuse(path: string, times: number, refusal: Refusal): void {
    this.#refusals.set(path, { refusal, times });
  }

  /** When connections to a path were tried, in ms of performance.now(). */
  attempts(path = "/ws"): number[] {
    return this.#attempts.get(path) ?? [];
  }

  open(path = "/ws"): ScriptedConnection[] {
    return this.connections.filter((connection) => connection.path === path && !connection.closed);
  }

  note(what: string): void {
    this.story.push(what);
  }

  /** An event as a job publishes it; returns its seq. */
  publish(projectId: string, event: Published): number {
    const message = { ...event, projectId, seq: ++this.seq };
    const job = JSON.stringify([projectId, event.jobId, event.sentenceId]);
    this.#events.delete(job);
    this.#events.set(job, message);
    for (const connection of this.connections) {
      if (!connection.closed && connection.projects.has(projectId)) connection.send(message);
    }
    return this.seq;
  }

  /** Send the last event of each job that is newer than the cursor. */
  since(projectId: string, since: number): Sequenced[] {
    return [...this.#events.values()].filter((event) => event.projectId === projectId && event.seq > since);
  }

  async end(): Promise<void> {
    const closed = once(this.#http, "close");
    this.#http.close();
    for (const client of this.#webSockets.clients) client.terminate();
    this.#http.closeAllConnections();
    await closed;
  }
}
