/** The connection of a page to its gateway, shared by all projects that the page watches. */

import { backoff, between } from "./backoff.js";
import { EVENTS, own } from "./jobs.js";
import { Link, type Owner, type SocketType } from "./link.js";
import type { ErrorMessage, GoingAway, ServerMessage, Subscribed } from "./messages.js";
import {
  CONNECTING,
  type Connection,
  type ConnectionStatus,
  type GatewayError,
  type Listener,
  Project,
  type Snapshot,
  tell,
} from "./project.js";
import { readMessage } from "./read.js";

const LINGER_MS = 1_000; // a StrictMode remount, or the next page of an app, finds its project still subscribed
const GOOD_MS = 5_000; // a link that held this long starts the back-off anew: one that flaps does not
const AGAIN_ODDS = 0.3; // that a project that was refused is tried again at this tick
const WAKE_MS = 1_000; // the least time between two wakes
const WAKE_ANSWER_MS = 3_000;
const TICK_MS = 1_000;
const JUMP_MS = 5_000; // a clock that jumps by this much: the machine slept, or this tab was frozen
const PROJECT_ID = /^[a-z0-9][\w.:-]{0,127}$/i;

export interface ClientOptions {
  /** Of the gateway's WebSocket; by default `/ws` on the page's own host. A function is asked at each connection. */
  url?: string | (() => string) | undefined;
  /** Asked at each connection; sent as `token` in the URL's query, for a proxy that checks it: the gateway does not. */
  getToken?: (() => string | undefined | Promise<string | undefined>) | undefined;
  /** How many of the last events a snapshot holds; 100 by default, at least 1. */
  historyLimit?: number | undefined;
  /** Instead of the global one: `ws` in Node, a fake in tests. */
  webSocketImpl?: SocketType | undefined;
}

/** One project. Any number of these for one project share its subscription. */
export interface ProjectStore {
  /** Be told when the snapshot changes, at most once a frame, and what else is asked for. The project is kept subscribed
   * until the function that is returned is called, unless `isPassive`. */
  subscribe(onChange: () => void, others?: Omit<Listener, "onChange">): () => void;
  /** The same object until something changes. */
  getSnapshot(): Snapshot;
}

/** One connection. Its functions may be passed on as they are. */
export interface ProgressClient {
  project(projectId: string): ProjectStore;
  /** Be told when the status of the connection changes. */
  readonly subscribe: (onChange: () => void) => () => void;
  /** Of the connection itself, whether or not a project is subscribed on it yet. */
  readonly getStatus: () => ConnectionStatus;
  /** Open a new connection now, whatever was given up; one that works is kept until the new one has taken over. */
  readonly reconnect: () => void;
}

/** Make a client, which connects when the first project is watched, and leaves when the last is not any more. */
export const createProgressClient = (options: ClientOptions = {}): ProgressClient => new Client(options);

const defaultUrl = (): string => `${location.origin.replace("http", "ws")}/ws`; // https: wss

const withToken = (url: string, token: string): string =>
  `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;

const isOnline = (): boolean => globalThis.navigator?.onLine !== false;

/**
 * Every connection begins as `#next`. The first becomes `#link` when it opens; one that replaces a working link when all
 * projects are subscribed on it, so that a move to another replica loses nothing and shows nothing.
 */
class Client implements ProgressClient, Connection, Owner {
  readonly historyLimit: number;
  #options: ClientOptions;
  #projects = new Map<string, Project>(); // that somebody listens to, or did a moment ago
  #watched = new Set<Project>(); // that are to be subscribed
  #listeners = new Set<Listener>();
  #status: ConnectionStatus = "disconnected";
  #link: Link | undefined;
  #next: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined; // to the next connection
  #retryAt: number | null = null;
  #failures = 0;
  #error: GatewayError | null = null;
  #wokenAt = 0;
  #mustWake = false;
  #tick: ReturnType<typeof setInterval> | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.historyLimit = options.historyLimit || 100;
  }

  // What pages ask for

  project(projectId: string): ProjectStore {
    return {
      subscribe: (onChange, others) => {
        const project = this.#projects.get(projectId) ?? new Project(projectId, this);
        this.#projects.set(projectId, project);
        const listener = { ...others, onChange };
        project.listeners.add(listener);
        if (listener.isPassive) project.changed();
        else this.#watch(project);
        return () => {
          if (project.listeners.delete(listener)) this.#unwatch(project);
        };
      },
      getSnapshot: () => this.#projects.get(projectId)?.snapshot ?? CONNECTING,
    };
  }

  subscribe = (onChange: () => void): (() => void) => {
    const listener = { onChange };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  getStatus = (): ConnectionStatus => this.#status;

  reconnect = (): void => {
    this.#error = null;
    if (this.#watched.size && !this.#next) this.#connect();
  };

  #watch(project: Project): void {
    if (this.#watched.has(project)) return;
    if (!PROJECT_ID.test(project.id)) {
      project.error = { code: "bad_project_id", message: "" };
    } else {
      if (!this.#watched.size) this.#listenToPage();
      this.#watched.add(project);
      for (const link of this.#links) project.ask(link);
      if (!this.#links.length && this.#retryAt === null && !this.#hasGivenUp) this.#connect();
    }
    project.changed();
  }

  #unwatch(project: Project): void {
    clearTimeout(project.linger);
    project.linger = setTimeout(() => {
      if ([...project.listeners].every(({ isPassive }) => isPassive) && this.#watched.delete(project)) {
        for (const link of this.#links) link.send({ type: "unsubscribe", projectId: project.id });
        project.leave();
        if (this.#watched.size) this.#settle();
        else this.#rest();
      }
      if (!project.listeners.size) this.#projects.delete(project.id);
    }, LINGER_MS);
  }

  /** Nobody watches anything. */
  #rest(): void {
    this.#leaveAll();
    this.#error = null;
    this.#listenToPage(false);
    this.#changed();
  }

  // What projects ask for

  statusOf(project: Project): Pick<Snapshot, "status" | "error" | "retryAt"> {
    const isTrying = this.#links.length && this.#watched.has(project) && !project.error && isOnline();
    return {
      status: project.source ? "connected" : isTrying ? "connecting" : "disconnected",
      error: project.error ?? this.#error,
      retryAt: project.source ? null : this.#retryAt,
    };
  }

  // Connections

  get #links(): Link[] {
    return [this.#next, this.#link].filter((link) => !!link);
  }

  /** After a close code that says so. */
  get #hasGivenUp(): boolean {
    const code = Number(this.#error?.code);
    return code >= 4000 && code < 4500;
  }

  #connect(): void {
    clearTimeout(this.#timer);
    this.#retryAt = null;
    const link = (this.#next = new Link(this));
    const { url = defaultUrl, getToken, webSocketImpl } = this.#options;
    const open = (token?: string): void =>
      link.open(() => {
        const base = typeof url === "string" ? url : url();
        return new (webSocketImpl ?? WebSocket)(token === undefined ? base : withToken(base, token));
      });
    if (!getToken) open();
    else
      Promise.resolve()
        .then(getToken)
        .then(open, (error) => link.end("no_token", String(error)));
    this.#changed();
  }

  onOpen(link: Link): void {
    if (!this.#link) this.#moveTo(link);
    for (const project of this.#watched) project.ask(link);
    this.#changed();
  }

  onEnd(link: Link, code: number | string, reason: string): void {
    if (Date.now() - link.goodSince! >= GOOD_MS) this.#failures = 0;
    this.#error = { code, message: reason };
    const wasNext = link === this.#next;
    if (wasNext) this.#next = undefined;
    else this.#link = undefined;
    if (this.#hasGivenUp) this.#leaveAll();
    else if (!this.#link && this.#next?.isOpen) this.#moveTo(this.#next);
    else if (!this.#next) this.#retry();
    for (const project of this.#watched) {
      if (project.source !== link && !this.#hasGivenUp) continue;
      project.leave();
      if (wasNext) project.ask(this.#link); // where it was watched before it moved, and still may be
    }
    this.#changed();
  }

  /** Connect after a while, or when the page wakes. */
  #retry(): void {
    const ms = backoff(this.#failures++);
    clearTimeout(this.#timer);
    this.#retryAt = Date.now() + ms;
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #moveTo(link: Link): void {
    this.#link?.close();
    this.#link = link;
    this.#next = undefined;
  }

  #leaveAll(): void {
    clearTimeout(this.#timer);
    this.#retryAt = null;
    for (const link of this.#links) link.close();
    this.#link = this.#next = undefined;
  }

  /** Leave the old connection as soon as everything that it carries is carried by the next one. */
  #settle(): void {
    const next = this.#next;
    if (next?.isOpen && [...this.#watched].every(({ source, error }) => (source ? source === next : error))) {
      this.#moveTo(next);
    }
  }

  // What the gateway says

  onText(link: Link, text: unknown): void {
    try {
      this.#onMessage(link, readMessage(text));
    } catch {
      link.end("bad_message");
    }
  }

  #onMessage(link: Link, message: ServerMessage): void {
    if ("jobId" in message && own(EVENTS, message.type)?.[0]) {
      return this.#projects.get(message.projectId)?.onEvent(link, message);
    }
    switch (message.type) {
      case "subscribed":
        return this.#onSubscribed(link, message);
      case "stale":
      case "live":
        link.isStale = message.type === "stale";
        for (const project of this.#watched) if (project.source === link) project.hear();
        return;
      case "going_away":
        return this.#onGoingAway(link, message);
      case "error":
        return this.#onError(message);
      case "connected":
      case "unsubscribed":
      case "pong":
        return;
      default: // of a newer gateway
        this.#error = { code: "unknown_type", message: "" };
        this.#changed();
    }
  }

  #onSubscribed(link: Link, message: Subscribed): void {
    const project = this.#projects.get(message.projectId);
    // Where a project has moved already, the connection that it left says nothing about the present one.
    const isLate = link !== this.#next && (project?.source ?? link) !== link;
    if (!project || isLate || !this.#watched.has(project)) return;
    link.goodSince ??= Date.now();
    this.#error = null;
    project.onSubscribed(link, message);
    this.#settle();
  }

  #onGoingAway(link: Link, { reconnectIn: [from, to] }: GoingAway): void {
    if (link === this.#next) return link.end("going_away"); // from one that drains to another: try the next
    if (this.#next) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), between(from, to));
  }

  #onError({ code, message, projectId = "" }: ErrorMessage): void {
    const project = this.#projects.get(projectId);
    const error = { code, message };
    if (project) project.error = error;
    else this.#error = error;
    this.#settle();
    this.#changed();
  }

  // What the page and the machine do

  #listenToPage(isOn = true): void {
    for (const type of ["online", "offline", "pageshow", "visibilitychange"]) {
      globalThis[isOn ? "addEventListener" : "removeEventListener"]?.(type, this.#onPage);
    }
    clearInterval(this.#tick);
    if (!isOn) return;
    let tickedAt = Date.now();
    this.#tick = setInterval(() => {
      const passed = Date.now() - tickedAt;
      tickedAt += passed;
      const isJump = passed < 0 || passed > JUMP_MS;
      if (isJump || this.#mustWake) this.#wake();
      const link = this.#links.find(({ isOpen }) => isOpen);
      for (const project of this.#watched) {
        if (isJump)
          project.hear(); // nothing was heard while asleep, and no promise broken
        else project.onTick();
        if (project.error && Math.random() < AGAIN_ODDS) project.ask(link);
      }
    }, TICK_MS);
  }

  #onPage = ({ type }: Event): void => {
    if (type === "offline") for (const link of this.#links.reverse()) link.end(type);
    else if (!globalThis.document?.hidden || type === "online") this.#wake();
  };

  /** Do not wait, and do not trust what looks open. */
  #wake(): void {
    const now = Date.now();
    this.#mustWake = Math.abs(now - this.#wokenAt) < WAKE_MS; // too soon: at the next tick, then
    if (this.#mustWake || this.#hasGivenUp) return;
    this.#wokenAt = now;
    for (const link of this.#links) link.probe(WAKE_ANSWER_MS);
    if (!this.#links.length) this.#connect();
    this.#changed();
  }

  #changed(): void {
    for (const project of this.#projects.values()) project.changed();
    const status = this.#link ? "connected" : this.#next && isOnline() ? "connecting" : "disconnected";
    if (status === this.#status) return;
    this.#status = status;
    tell(this.#listeners, ({ onChange }) => onChange());
  }
}
