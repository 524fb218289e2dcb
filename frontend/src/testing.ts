/** For the tests of your own pages: a gateway in memory that speaks the protocol and does what the test tells it to. */

import { createProgressClient, type ProgressClient } from "./client.js";
import type { Auth, ClientMessage, EventMessage, ProgressMessage, ServerMessage, Subscribe } from "./messages.js";
import type { ClientOptions } from "./options.js";
import { judge } from "./rules.js";

type Published<E> = E extends EventMessage ? Omit<E, "projectId" | "seq"> : never;

/** An event as a job publishes it. A progress whose attempt is "next" begins the job's next attempt. */
export type PublishedEvent =
  | Published<EventMessage>
  | (Omit<ProgressMessage, "projectId" | "seq" | "attempt"> & { attempt: "next" });

/** What a token allows. */
export interface TokenGrant {
  /** The projects, by id or `prefix*`; all by default. */
  projects?: readonly string[] | undefined;
  /** Its life, in ms, as the client is told it; an hour by default. Only `expire` ends it. */
  expiresIn?: number | undefined;
  /** Whose it is. A later token on the same connection has to be the same user's. */
  sub?: string | undefined;
}

interface JobMemory {
  /** The highest attempt that any of its events carried. */
  attempt: number | undefined;
  /** The last event of the job itself, under "", and of each of its sentences. */
  events: Map<string, EventMessage>;
}

interface ProjectMemory {
  /** The seq of the last event; 0 before the first one. */
  seq: number;
  /** The seq of the first event that is remembered; a client that saw it has missed nothing. */
  from: number;
  jobs: Map<string, JobMemory>;
}

/** The gateway's side of one socket. */
export interface FakeConnection {
  readonly url: string;
  /** The messages that the client sent on it. */
  readonly received: readonly ClientMessage[];
  /** The projects that are subscribed on it. */
  readonly projects: ReadonlySet<string>;
  /** Send anything to the client: an object as JSON, a string unchanged. */
  send(message: ServerMessage | object | string): void;
  /** End it with a close code, as the gateway does; without one, as a lost network does. */
  close(code?: number, reason?: string): void;
}

/**
 * A gateway in memory. Like a real one it numbers the events and refuses those of replaced attempts, remembers the last
 * event of each job and sentence, and replays from a cursor. It can ask for tokens: see `allow`. Its answers arrive in a later microtask, so wait for what the page shows.
 *
 *     const gateway = new FakeGateway();
 *     render(<ProgressProvider client={gateway.client()}><MyPage /></ProgressProvider>);
 *     gateway.publish("project_1", { type: "progress", jobId: "job_7", jobType: "audio", progress: 40 });
 *     await screen.findByText("40 %");
 */
export class FakeGateway {
  /** False: connections are refused. */
  isUp = true;
  /** How many connections were opened so far, with those that were refused. */
  attempts = 0;
  /** A WebSocket class that connects to this gateway: for `webSocketImpl`, or to stub the global one. */
  readonly WebSocket: typeof WebSocket;
  /** The value of `isAnswering`. */
  #isAnswering = true;
  /** The steps that wait until the gateway answers again, in order. */
  #held: (() => void)[] = [];
  /** The open connections, the oldest first. */
  #connections = new Set<GatewayEnd>();
  /** What is remembered of each project, by its id. */
  #projects = new Map<string, ProjectMemory>();
  /** The tokens, each with its grant or with the reason why it is refused; undefined: everybody may watch. */
  #tokens: Map<string, TokenGrant | string> | undefined;
  /** `setStale(true)` was called: new connections are told so. */
  #isStale = false;
  /** The last seq of all projects. It survives `forget()`, so that seq never goes back. */
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

  /** False: the sockets stay open but nothing passes, as with a frozen process or a stalled network. When it
   * is set back to true, the held messages go on in order. */
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

  /**
   * Publish an event, as a job does. Returns its seq, or null if it is refused: a later attempt of the job has begun,
   * or in this attempt it has ended or was further.
   */
  publish(projectId: string, event: PublishedEvent): number | null {
    const memory = this.#memoryOf(projectId);
    const job = memory.jobs.get(event.jobId) ?? { attempt: undefined, events: new Map() };
    const next = job.attempt === undefined ? 0 : job.attempt + 1;
    const seq = Math.max(this.#seq + 1, Date.now() * 1000);
    const attempt = event.attempt === "next" ? next : event.attempt;
    const message = { ...event, projectId, seq, ...(attempt === undefined ? undefined : { attempt }) } as EventMessage;
    const part = event.sentenceId ?? "";
    const verdict = judge(job.attempt, job.events.get(part), message);
    if (verdict === "refused") return null;
    if (verdict === "begins") job.events.clear();
    job.attempt = attempt ?? job.attempt;
    job.events.set(part, message);
    memory.jobs.set(event.jobId, job);
    this.#seq = memory.seq = seq;
    memory.from ||= seq;
    for (const connection of this.#connections) if (connection.projects.has(projectId)) connection.send(message);
    return seq;
  }

  /** Forget all events, as an emptied Redis does: a client that reconnects gets `recovered: false`. */
  forget(): void {
    this.#projects.clear();
  }

  /** Send `stale` (the gateway lost Redis) or `live` (it is back) to all clients. */
  setStale(isStale: boolean): void {
    this.#isStale = isStale;
    this.#sendAll({ type: isStale ? "stale" : "live" });
  }

  /** Ask all clients to move to another replica within the window, in ms from now. The open connections still work. */
  goAway(reconnectIn: [number, number] = [0, 0]): void {
    this.#sendAll({ type: "going_away", reconnectIn });
  }

  /** End all connections: 1006 is a lost network, 1012 a restart, 4000 to 4499 "do not reconnect". */
  closeAll(code = 1006, reason = ""): void {
    for (const connection of this.#connections) connection.close(code, reason);
  }

  /**
   * Take this token. From the first call on, connections without a token end with 4401, and so do those with any other
   * one. A second call with the same token replaces its grant: what is live and no longer covered ends with `forbidden`.
   */
  allow(token: string, grant: TokenGrant = {}): void {
    this.#tokens ??= new Map();
    this.#tokens.set(token, grant);
    for (const connection of this.#connections) if (connection.token === token) this.#forbid(connection, grant);
  }

  /** The life of this token is over: its connections end with 4401, and it is refused from now on. */
  expire(token: string): void {
    this.#refuse(token, "token expired");
  }

  /** The same, as after `revoke_viewer`. */
  revoke(token: string): void {
    this.#refuse(token, "token revoked");
  }

  #refuse(token: string, reason: string): void {
    this.allow(token);
    this.#tokens!.set(token, reason);
    for (const connection of this.#connections) if (connection.token === token) connection.close(4401, reason);
  }

  #onAuth(connection: GatewayEnd, { token }: Auth): void {
    const grant = this.#tokens ? (this.#tokens.get(token) ?? "bad token") : {};
    const before = this.#tokens?.get(connection.token ?? "");
    if (typeof grant === "string") return connection.close(4401, grant);
    if (typeof before === "object" && before.sub !== grant.sub) return connection.close(4401, "another user");
    connection.token = token;
    connection.send({ type: "authorised", expiresIn: grant.expiresIn ?? 3_600_000 });
    this.#forbid(connection, grant);
  }

  /** End the subscriptions that the grant does not cover. */
  #forbid(connection: GatewayEnd, grant: TokenGrant): void {
    for (const projectId of connection.projects) this.#checkProject(connection, projectId, grant);
  }

  /** Whether the grant covers the project; if not, the client is told. */
  #checkProject(connection: GatewayEnd, projectId: string, { projects = ["*"] }: TokenGrant): boolean {
    const covers = (name: string): boolean =>
      name.endsWith("*") ? projectId.startsWith(name.slice(0, -1)) : name === projectId;
    if (projects.some(covers)) return true;
    connection.projects.delete(projectId);
    const message = "Your token does not cover this project.";
    connection.send({ type: "error", code: "forbidden", message, projectId });
    return false;
  }

  #sendAll(message: ServerMessage): void {
    for (const connection of this.#connections) connection.send(message);
  }

  #memoryOf(projectId: string): ProjectMemory {
    const known = this.#projects.get(projectId) ?? { seq: 0, from: 0, jobs: new Map() };
    this.#projects.set(projectId, known);
    return known;
  }

  /** @internal */
  whenAnswering(step: () => void): void {
    if (this.#isAnswering) step();
    else this.#held.push(step);
  }

  /** @internal */
  onConnect(connection: GatewayEnd): void {
    this.attempts++;
    if (!this.isUp) return connection.close(1006);
    this.#connections.add(connection);
    connection.open();
    connection.send({ type: "connected", clientId: `client_${this.attempts}` });
    if (this.#isStale) connection.send({ type: "stale" });
  }

  /** @internal */
  onMessage(connection: GatewayEnd, message: ClientMessage): void {
    connection.received.push(message);
    switch (message.type) {
      case "auth":
        return this.#onAuth(connection, message);
      case "subscribe":
        return this.#onSubscribe(connection, message);
      case "unsubscribe":
        connection.projects.delete(message.projectId);
        return connection.send({ type: "unsubscribed", projectId: message.projectId });
      case "ping":
        return connection.send({ type: "pong" });
    }
  }

  #onSubscribe(connection: GatewayEnd, { projectId, since = 0 }: Subscribe): void {
    const grant = this.#tokens ? this.#tokens.get(connection.token ?? "") : {};
    if (typeof grant !== "object") return connection.close(4401, "no token"); // a real gateway waits for one, 5 s
    if (!this.#checkProject(connection, projectId, grant)) return;
    const { seq, from, jobs } = this.#memoryOf(projectId);
    const events = [...jobs.values()].flatMap((job) => [...job.events.values()]).sort((a, b) => a.seq! - b.seq!);
    const recovered = since === 0 || (from <= since && since <= seq);
    connection.projects.add(projectId);
    connection.send({ type: "subscribed", projectId, seq, recovered });
    for (const event of events) if (event.seq! > since || since > seq) connection.send(event);
  }

  /** @internal */
  onClose(connection: GatewayEnd): void {
    this.#connections.delete(connection);
  }
}

/** The gateway's end of a socket; lives as long as that. Each step runs in a microtask of its own, in order. */
class GatewayEnd implements FakeConnection {
  readonly url: string;
  readonly received: ClientMessage[] = [];
  readonly projects = new Set<string>();
  /** The token that was taken on it last. */
  token: string | undefined;
  /** The gateway that it belongs to. */
  #gateway: FakeGateway;
  /** The page's end. */
  #socket: FakeSocket;
  /** Resolves when all steps so far have run. */
  #steps: Promise<void> = Promise.resolve();

  constructor(socket: FakeSocket, gateway: FakeGateway) {
    this.url = socket.url;
    this.#socket = socket;
    this.#gateway = gateway;
    this.#enqueue(() => gateway.onConnect(this));
  }

  #enqueue(step: () => unknown): void {
    this.#steps = this.#steps.then(() => void (this.#socket.readyState < FakeSocket.CLOSED && step()));
  }

  open(): void {
    this.#socket.readyState = FakeSocket.OPEN;
    this.#socket.onopen?.({});
  }

  receive(text: string): void {
    this.#enqueue(() =>
      this.#gateway.whenAnswering(() => this.#gateway.onMessage(this, JSON.parse(text) as ClientMessage)),
    );
  }

  send(message: ServerMessage | object | string): void {
    const data = typeof message === "string" ? message : JSON.stringify(message);
    this.#enqueue(() => this.#gateway.whenAnswering(() => this.#socket.onmessage?.({ data })));
  }

  close(code = 1006, reason = ""): void {
    this.#enqueue(() => {
      this.#socket.readyState = FakeSocket.CLOSED;
      this.#gateway.onClose(this);
      this.#socket.onclose?.({ code, reason });
    });
  }
}

/** The page's end of a socket: the part of a WebSocket that a client uses. */
class FakeSocket {
  static readonly OPEN = 1;
  static readonly CLOSED = 3;
  readonly url: string;
  readyState = 0;
  onopen: ((event: object) => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: object) => void) | null = null;
  /** The gateway's end. */
  #gatewayEnd: GatewayEnd;

  constructor(url: string, gateway: FakeGateway) {
    this.url = url;
    this.#gatewayEnd = new GatewayEnd(this, gateway);
  }

  send(text: string): void {
    this.#gatewayEnd.receive(text);
  }

  close(code = 1000, reason = ""): void {
    this.#gatewayEnd.close(code, reason);
  }
}
