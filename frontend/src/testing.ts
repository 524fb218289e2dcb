/** For the tests of your own pages: a gateway that speaks the protocol, in memory, and does as the test says. */

import { type ClientOptions, createProgressClient, type ProgressClient } from "./client.js";
import type {
  ClientMessage,
  JobCompleteMessage,
  JobFailedMessage,
  ProgressMessage,
  ServerMessage,
  Subscribe,
} from "./messages.js";

type EventMessage = ProgressMessage | JobCompleteMessage | JobFailedMessage;
type Published<E> = E extends EventMessage ? Omit<E, "projectId" | "seq"> : never;

/** An event as a job publishes it. */
export type PublishedEvent = Published<EventMessage>;

interface Remembered {
  seq: number;
  /** The seq from which on nothing is forgotten. */
  from: number;
  events: Map<string, EventMessage>;
}

/** The gateway's side of one socket. */
export interface FakeConnection {
  readonly url: string;
  /** What the client said on it. */
  readonly received: readonly ClientMessage[];
  /** The projects that are subscribed on it. */
  readonly projects: ReadonlySet<string>;
  /** Say anything: an object is sent as JSON, a text as it stands. */
  send(message: ServerMessage | object | string): void;
  /** End it, as the gateway does (with a code), or as a lost network does. */
  close(code?: number, reason?: string): void;
}

/**
 * A gateway in memory. It remembers the last event of each job, gives every event its seq, and replays by cursor, as a
 * real one does. Like the network's, its answers come a moment later: wait for what the page shows.
 *
 *     const gateway = new FakeGateway();
 *     render(<ProgressProvider client={gateway.client()}><MyPage /></ProgressProvider>);
 *     gateway.publish("project_1", { type: "progress", jobId: "job_7", jobType: "audio", progress: 40 });
 *     await screen.findByText("40 %");
 */
export class FakeGateway {
  /** False: connections are refused. */
  isUp = true;
  /** How many connections there ever were, those that were refused included. */
  attempts = 0;
  /** A class that can take the place of the browser's: `webSocketImpl` of a client, or a global stub. */
  readonly WebSocket: typeof WebSocket;
  #isAnswering = true;
  #held: (() => void)[] = [];
  #connections = new Set<Connection>();
  #projects = new Map<string, Remembered>();
  #isStale = false;
  #seq = 0;

  constructor() {
    const gateway = this;
    class BoundSocket extends FakeSocket {
      constructor(url: string) {
        super(url, gateway);
      }
    }
    this.WebSocket = BoundSocket as unknown as typeof WebSocket;
  }

  /** A client that connects to this gateway. */
  client(options: ClientOptions = {}): ProgressClient {
    return createProgressClient({ url: "ws://gateway.test/ws", webSocketImpl: this.WebSocket, ...options });
  }

  /** False: it is silent, as a frozen process or a stalled network is; the sockets stay open. Set to true again, it goes on
   * where it was. */
  get isAnswering(): boolean {
    return this.#isAnswering;
  }

  set isAnswering(isAnswering: boolean) {
    this.#isAnswering = isAnswering;
    if (isAnswering) for (const step of this.#held.splice(0)) step();
  }

  /** The open connections, the oldest first. */
  get connections(): readonly FakeConnection[] {
    return [...this.#connections];
  }

  /** Publish an event, as a job does; returns its seq. */
  publish(projectId: string, event: PublishedEvent): number {
    const remembered = this.#remembered(projectId);
    const seq = Math.max(this.#seq + 1, Date.now() * 1000);
    this.#seq = seq; // of all projects, so that it rises though they are forgotten
    const message = { ...event, projectId, seq } as EventMessage;
    remembered.seq = seq;
    remembered.from ||= seq;
    const job = JSON.stringify([event.jobId, event.sentenceId]);
    remembered.events.delete(job);
    remembered.events.set(job, message);
    for (const connection of this.#connections) if (connection.projects.has(projectId)) connection.send(message);
    return seq;
  }

  /** Forget what was published, as a Redis that was emptied does: who comes back is told `recovered: false`. */
  forget(): void {
    this.#projects.clear();
  }

  /** Tell all clients that what they show may be old, or is current again. */
  setStale(isStale: boolean): void {
    this.#isStale = isStale;
    this.#sendAll({ type: isStale ? "stale" : "live" });
  }

  /** Ask all clients to move to another replica within the window, in milliseconds; this one goes on serving. */
  goAway(reconnectIn: [number, number] = [0, 0]): void {
    this.#sendAll({ type: "going_away", reconnectIn });
  }

  /** End all connections: 1006 is a lost network, 1012 a restart, 4000 to 4499 "do not come back". */
  closeAll(code = 1006, reason = ""): void {
    for (const connection of this.#connections) connection.close(code, reason);
  }

  #sendAll(message: ServerMessage): void {
    for (const connection of this.#connections) connection.send(message);
  }

  #remembered(projectId: string): Remembered {
    const known = this.#projects.get(projectId) ?? { seq: 0, from: 0, events: new Map() };
    this.#projects.set(projectId, known);
    return known;
  }

  /** @internal */
  whenAnswering(step: () => void): void {
    if (this.#isAnswering) step();
    else this.#held.push(step);
  }

  /** @internal */
  onConnect(connection: Connection): void {
    this.attempts++;
    if (!this.isUp) return connection.close(1006);
    this.#connections.add(connection);
    connection.open();
    connection.send({ type: "connected", clientId: `client_${this.attempts}` });
    if (this.#isStale) connection.send({ type: "stale" });
  }

  /** @internal */
  onMessage(connection: Connection, message: ClientMessage): void {
    connection.received.push(message);
    switch (message.type) {
      case "subscribe":
        return this.#onSubscribe(connection, message);
      case "unsubscribe":
        connection.projects.delete(message.projectId);
        return connection.send({ type: "unsubscribed", projectId: message.projectId });
      case "ping":
        return connection.send({ type: "pong" });
    }
  }

  #onSubscribe(connection: Connection, { projectId, since = 0 }: Subscribe): void {
    const { seq, from, events } = this.#remembered(projectId);
    const recovered = since === 0 || (from <= since && since <= seq);
    connection.projects.add(projectId);
    connection.send({ type: "subscribed", projectId, seq, recovered });
    for (const event of events.values()) if (event.seq! > since || since > seq) connection.send(event);
  }

  /** @internal */
  onClose(connection: Connection): void {
    this.#connections.delete(connection);
  }
}

/** The gateway's end of a socket. Each step comes in a microtask of its own, in order. */
class Connection implements FakeConnection {
  readonly url: string;
  readonly received: ClientMessage[] = [];
  readonly projects = new Set<string>();
  #gateway: FakeGateway;
  #socket: FakeSocket;
  #steps: Promise<void> = Promise.resolve();

  constructor(socket: FakeSocket, gateway: FakeGateway) {
    this.url = socket.url;
    this.#socket = socket;
    this.#gateway = gateway;
    this.#later(() => gateway.onConnect(this));
  }

  #later(step: () => unknown): void {
    this.#steps = this.#steps.then(() => void (this.#socket.readyState < FakeSocket.CLOSED && step()));
  }

  open(): void {
    this.#socket.readyState = FakeSocket.OPEN;
    this.#socket.onopen?.({});
  }

  receive(text: string): void {
    this.#later(() =>
      this.#gateway.whenAnswering(() => this.#gateway.onMessage(this, JSON.parse(text) as ClientMessage)),
    );
  }

  send(message: ServerMessage | object | string): void {
    const data = typeof message === "string" ? message : JSON.stringify(message);
    this.#later(() => this.#gateway.whenAnswering(() => this.#socket.onmessage?.({ data })));
  }

  close(code = 1006, reason = ""): void {
    this.#later(() => {
      this.#socket.readyState = FakeSocket.CLOSED;
      this.#gateway.onClose(this);
      this.#socket.onclose?.({ code, reason });
    });
  }
}

/** The page's end of a socket: as much of a WebSocket as a client uses. */
class FakeSocket {
  static readonly OPEN = 1;
  static readonly CLOSED = 3;
  readonly url: string;
  readyState = 0;
  onopen: ((event: object) => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: object) => void) | null = null;
  #connection: Connection;

  constructor(url: string, gateway: FakeGateway) {
    this.url = url;
    this.#connection = new Connection(this, gateway);
  }

  send(text: string): void {
    this.#connection.receive(text);
  }

  close(code = 1000, reason = ""): void {
    this.#connection.close(code, reason);
  }
}
