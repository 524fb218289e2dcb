/** The client of a page: one connection to the gateway, shared by all projects that the page watches. */

import { backoff, between } from "./backoff.js";
import { own, STATUS } from "./jobs.js";
import { Link, type LinkOwner } from "./link.js";
import type { ErrorMessage, GoingAway, ServerMessage, Subscribed } from "./messages.js";
import { type ClientOptions, openSocket } from "./options.js";
import { type PageOwner, watchPage } from "./page.js";
import {
  CONNECTING,
  type ConnectionStatus,
  type GatewayError,
  type Listener,
  notify,
  Project,
  type ProjectOwner,
  type Snapshot,
} from "./project.js";
import { readMessage } from "./read.js";

const STABLE_MS = 5_000; // a link that worked this long resets the back-off; one that flaps does not
const LINGER_MS = 1_000; // a StrictMode remount, or the next page of an app, finds its project still subscribed
const RESUBSCRIBE_ODDS = 0.3; // the chance, each second, that a refused project is subscribed again
const WAKE_ANSWER_MS = 3_000; // how long a link may take to answer the `ping` of a wake
/** The rule for project ids, as in the gateway. */
export const PROJECT_ID = /^[a-z0-9][\w.:-]{0,127}$/i;

/** One project. All stores of a project share its subscription. */
export interface ProjectStore {
  /**
   * Call `onChange` when the snapshot changes, at most once a frame; `Listener` has the other callbacks. The project
   * stays subscribed until the returned function is called, unless `isPassive` is set.
   */
  subscribe(onChange: () => void, others?: Omit<Listener, "onChange">): () => void;
  /** The same object until something changes. */
  getSnapshot(): Snapshot;
}

/** One connection. Its functions need no `this`. */
export interface ProgressClient {
  project(projectId: string): ProjectStore;
  /** Call `onChange` when the status of the connection changes. Returns the function that ends this. */
  readonly subscribe: (onChange: () => void) => () => void;
  /** The status of the connection itself, whether or not a project is subscribed on it yet. */
  readonly getStatus: () => ConnectionStatus;
  /** Open a new connection now, also after the client gave up. A connection that works stays until the new one has
   * taken over. */
  readonly reconnect: () => void;
}

/** Make a client. It connects when the first project is watched, and disconnects when none is watched any more. */
export const createProgressClient = (options: ClientOptions = {}): ProgressClient => new Client(options);

const isOnline = (): boolean => globalThis.navigator?.onLine !== false;

/** Lives as long as the page holds it. While no project is watched it has no link, timer or page listener. */
class Client implements ProgressClient, ProjectOwner, LinkOwner, PageOwner {
  /** How many of the last events a snapshot holds. */
  readonly historyLimit: number;
  /** Where to connect, and how. */
  #options: ClientOptions;
  /** The status that `#listeners` were last told. */
  #status: ConnectionStatus = "disconnected";
  /** Why the last link ended, or what the gateway answered to a message without a project; null once all is well. */
  #error: GatewayError | null = null;
  /** Those who asked for the status of the connection. */
  #listeners = new Set<Listener>();

  // Projects

  /** The projects that have a listener, or had one less than LINGER_MS ago. */
  #projects = new Map<string, Project>();
  /** The projects to subscribe on each link. A subset of `#projects`. */
  #watched = new Set<Project>();
  /** Stops listening to the page. Set when the first project is watched, called when none is any more. */
  #unwatchPage: (() => void) | undefined;

  // Links. A link starts as `#next` and becomes `#link` when it opens. If `#link` still works, it stays until all
  // projects are subscribed on `#next`: a move to another replica then loses no event, and the page shows no break.

  /** The link in use; undefined before the first one opens, and after a loss. */
  #link: Link | undefined;
  /** The link that is being opened, or that the projects are moving to. */
  #next: Link | undefined;
  /** The timer of the next attempt: after a loss, or within the window of a `going_away`. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the next attempt starts after a loss, in ms since the epoch; null if none is planned. */
  #retryAt: number | null = null;
  /** The number of losses since a link was last stable. */
  #failures = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.historyLimit = options.historyLimit || 100;
  }

  // What pages call

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
      if (!this.#watched.size) this.#unwatchPage = watchPage(this);
      this.#watched.add(project);
      for (const link of this.#links) project.subscribe(link);
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
        if (this.#watched.size) this.#finishMove();
        else this.#rest();
      }
      if (!project.listeners.size) this.#projects.delete(project.id);
    }, LINGER_MS);
  }

  /** The last project is not watched any more: disconnect. */
  #rest(): void {
    this.#closeAll();
    this.#error = null;
    this.#unwatchPage!();
    this.#changed();
  }

  // What projects call

  statusOf(project: Project): Pick<Snapshot, "status" | "error" | "retryAt"> {
    const isTrying = this.#links.length && this.#watched.has(project) && !project.error && isOnline();
    return {
      status: project.link ? "connected" : isTrying ? "connecting" : "disconnected",
      error: project.error ?? this.#error,
      retryAt: project.link ? null : this.#retryAt,
    };
  }

  // Links

  /** The links that exist, `#next` first. */
  get #links(): Link[] {
    return [this.#next, this.#link].filter((link) => !!link);
  }

  /** Start a new link now. */
  #connect(): void {
    this.#cancelTimer();
    const link = (this.#next = new Link(this));
    const open = (token?: string): void => link.open(() => openSocket(this.#options, token));
    const { getToken } = this.#options;
    if (!getToken) open();
    else
      Promise.resolve()
        .then(getToken)
        .then(open, (error) => link.end("no_token", String(error)));
    this.#changed();
  }

  /** Plan the next attempt after a loss. */
  #retry(): void {
    const ms = backoff(this.#failures++);
    this.#retryAt = Date.now() + ms;
    this.#connectIn(ms);
  }

  #connectIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #cancelTimer(): void {
    clearTimeout(this.#timer);
    this.#retryAt = null;
  }

  /** Use `link` from now on. */
  #moveTo(link: Link): void {
    this.#link?.close();
    this.#link = link;
    this.#next = undefined;
  }

  #closeAll(): void {
    this.#cancelTimer();
    for (const link of this.#links) link.close();
    this.#link = this.#next = undefined;
  }

  onOpen(link: Link): void {
    if (!this.#link) this.#moveTo(link);
    for (const project of this.#watched) project.subscribe(link);
    this.#changed();
  }

  onEnd(link: Link, code: number | string, reason: string): void {
    if (Date.now() - link.workingSince! >= STABLE_MS) this.#failures = 0;
    this.#error = { code, message: reason };
    const wasNext = link === this.#next;
    if (wasNext) this.#next = undefined;
    else this.#link = undefined;
    if (this.#hasGivenUp) this.#closeAll();
    else if (!this.#link && this.#next?.isOpen) this.#moveTo(this.#next);
    else if (!this.#next) this.#retry();
    for (const project of this.#watched) {
      if (project.link !== link && !this.#hasGivenUp) continue;
      project.leave();
      if (wasNext) project.subscribe(this.#link); // back to the link that it moved away from
    }
    this.#changed();
  }

  onText(link: Link, text: unknown): void {
    try {
      this.#onMessage(link, readMessage(text));
    } catch {
      link.end("bad_message");
    }
  }

  /** The last close code told the client not to reconnect. */
  get #hasGivenUp(): boolean {
    const code = Number(this.#error?.code);
    return code >= 4000 && code < 4500;
  }

  /** Move to `#next` once every watched project is subscribed on it, or on neither link because it was refused. */
  #finishMove(): void {
    const next = this.#next;
    if (next?.isOpen && [...this.#watched].every(({ link, error }) => (link ? link === next : error))) {
      this.#moveTo(next);
    }
  }

  // Messages of the gateway

  #onMessage(link: Link, message: ServerMessage): void {
    if ("jobId" in message && own(STATUS, message.type)) {
      return this.#projects.get(message.projectId)?.onEvent(link, message);
    }
    switch (message.type) {
      case "subscribed":
        return this.#onSubscribed(link, message);
      case "stale":
      case "live":
        link.isStale = message.type === "stale";
        for (const project of this.#watched) if (project.link === link) project.resetSilence();
        return;
      case "going_away":
        return this.#onGoingAway(link, message);
      case "error":
        return this.#onError(message);
      case "connected":
      case "unsubscribed":
      case "pong":
        return;
      default: // from a newer gateway
        this.#error = { code: "unknown_type", message: "" };
        this.#changed();
    }
  }

  #onSubscribed(link: Link, message: Subscribed): void {
    const project = this.#projects.get(message.projectId);
    // A late answer on the old link, after the project moved to the new one, must not move it back.
    const isLate = link !== this.#next && (project?.link ?? link) !== link;
    if (!project || isLate || !this.#watched.has(project)) return;
    link.workingSince ??= Date.now();
    this.#error = null;
    project.onSubscribed(link, message);
    this.#finishMove();
  }

  #onGoingAway(link: Link, { reconnectIn: [from, to] }: GoingAway): void {
    if (link === this.#next)
      link.end("going_away"); // the new replica drains too: try another one
    else if (!this.#next) this.#connectIn(between(from, to));
  }

  #onError({ code, message, projectId = "" }: ErrorMessage): void {
    const project = this.#projects.get(projectId);
    const error = { code, message };
    if (project) project.error = error;
    else this.#error = error;
    this.#finishMove();
    this.#changed();
  }

  // Events of the page

  onOffline(): void {
    // The old link first. The other way round the projects would move back to it, and two losses would be counted.
    for (const link of this.#links.reverse()) link.end("offline");
  }

  /** Retry at once, and probe each link: one that looks open may be dead. */
  onWake(): void {
    if (this.#hasGivenUp) return;
    for (const link of this.#links) link.probe(WAKE_ANSWER_MS);
    if (!this.#links.length) this.#connect();
    this.#changed();
  }

  onTick(hasSlept: boolean): void {
    const link = this.#links.find(({ isOpen }) => isOpen);
    for (const project of this.#watched) {
      if (hasSlept) project.resetSilence();
      else project.onTick();
      if (project.error && Math.random() < RESUBSCRIBE_ODDS) project.subscribe(link);
    }
  }

  /** The connection or an error changed: projects and listeners show it. */
  #changed(): void {
    for (const project of this.#projects.values()) project.changed();
    const status = this.#link ? "connected" : this.#next && isOnline() ? "connecting" : "disconnected";
    if (status === this.#status) return;
    this.#status = status;
    notify(this.#listeners);
  }
}
