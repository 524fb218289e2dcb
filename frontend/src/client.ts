/** The client of a page: one connection to the gateway, shared by all projects that the page watches. */

import { backoff, between, later, refusalBackoff } from "./backoff.js";
import { Link, type LinkOwner } from "./link.js";
import type { ErrorMessage, GoingAway, ServerMessage, Subscribed } from "./messages.js";
import { type ClientOptions, openSocket } from "./options.js";
import { type PageOwner, watchPage } from "./page.js";
import {
  CONNECTING,
  type ConnectionStatus,
  type GatewayError,
  guard,
  type Handlers,
  type Listener,
  notify,
  Project,
  type ProjectOwner,
  type Snapshot,
} from "./project.js";
import { readMessage } from "./read.js";
import { STATUS } from "./rules.js";
import { type JobData, own } from "./state.js";
import { Tokens } from "./tokens.js";

const STABLE_MS = 5_000; // a link that worked this long resets the back-off; one that flaps does not
const LINGER_MS = 1_000; // a StrictMode remount, or the next page of an app, finds its project still subscribed
const QUICK_MOVES = 2; // in a row, without back-off: the next replica may drain as well
const ANSWER_MS = 30_000; // after this long without an answer, a refused project is subscribed again
const NOT_AUTHORISED = 4401;
const FORBIDDEN = "forbidden"; // the token does not cover the project
const WAKE_ANSWER_MS = 3_000; // how long a link may take to answer the `ping` of a wake
/** The rule for project ids, as in the gateway. */
export const PROJECT_ID = /^[a-z0-9][\w.:-]{0,127}$/i;

/** One project. All stores of a project share its subscription. */
export interface ProjectStore<Data = JobData> {
  /**
   * Call `onChange` when the snapshot changes, at most once a frame; `others` has more callbacks, which are looked up
   * at each call. The project stays subscribed until the returned function is called, unless `isPassive` is set.
   */
  subscribe(onChange: () => void, others?: Handlers<Data> & { isPassive?: boolean | undefined }): () => void;
  /** The same object until something changes. */
  getSnapshot(): Snapshot<Data>;
}

/** One connection. Its functions need no `this`. `Data` is the type of the `data` of all events. */
export interface ProgressClient<Data = JobData> {
  project<ProjectData = Data>(projectId: string): ProjectStore<ProjectData>;
  /** Call `onChange` when the status of the connection changes. Returns the function that ends this. */
  readonly subscribe: (onChange: () => void) => () => void;
  /** The status of the connection itself, whether or not a project is subscribed on it yet. */
  readonly getStatus: () => ConnectionStatus;
  /** Open a new connection now, also after `close`, or after the client gave up. A connection that works stays until
   * the new one has taken over. */
  readonly reconnect: () => void;
  /** Check the connection now, and retry now. Browsers tell the client when a page is shown again; call it where
   * nothing does, as when an app of React Native becomes active. */
  readonly probe: () => void;
  /** Disconnect, until `reconnect` is called or all projects have been left. What is shown stays, as stale. */
  readonly close: () => void;
}

/** Make a client. It connects when the first project is watched, and disconnects when none is watched any more. */
export const createProgressClient = <Data = JobData>(options: ClientOptions = {}): ProgressClient<Data> =>
  new Client(options) as ProgressClient<Data>;

const isOnline = (): boolean => globalThis.navigator?.onLine !== false;

/** Lives as long as the page holds it. While no project is watched it has no link, timer or page listener. */
class Client implements ProgressClient, ProjectOwner, LinkOwner, PageOwner {
  /** How many of the last events a snapshot holds. */
  readonly historyLimit: number;
  /** How many jobs of a project are kept. */
  readonly jobLimit: number;
  /** Where to connect, and how. */
  #options: ClientOptions;
  /** The tokens of `getToken`, if there is one. */
  #tokens: Tokens | undefined;
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
  /** The number of `going_away` in a row on links that were not stable yet. */
  #moves = 0;
  /** No attempt is made until `reconnect`: the gateway said so, the next one would fail like the last one, or the page
   * called `close`. */
  #hasGivenUp = false;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#tokens = options.getToken && new Tokens(options.getToken, () => this.#onToken());
    this.historyLimit = options.historyLimit || 100;
    this.jobLimit = options.jobLimit || 1_000;
  }

  // What pages call

  project<Data>(projectId: string): ProjectStore<Data> {
    const store: ProjectStore = {
      subscribe: (onChange, others = {}) => {
        const project = this.#projects.get(projectId) ?? new Project(projectId, this);
        this.#projects.set(projectId, project);
        const listener: Listener = { __proto__: others, onChange } as Listener; // inherits, so that getters stay getters
        project.listeners.add(listener);
        if (listener.isPassive) project.changed();
        else this.#watch(project);
        return () => {
          if (project.listeners.delete(listener)) this.#unwatch(project);
        };
      },
      getSnapshot: () => this.#projects.get(projectId)?.snapshot ?? CONNECTING,
    };
    return store as unknown as ProjectStore<Data>;
  }

  subscribe = (onChange: () => void): (() => void) => {
    const listener = { onChange };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  getStatus = (): ConnectionStatus => this.#status;

  reconnect = (): void => {
    this.#tokens?.drop();
    this.#error = null;
    this.#hasGivenUp = false;
    if (this.#watched.size && !this.#next) this.#connect();
  };

  close = (): void => {
    this.#hasGivenUp = true;
    this.#error = null;
    this.#closeAll();
    this.#changed();
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
    this.#tokens?.rest();
    this.#error = null;
    this.#hasGivenUp = false;
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

  get #openLink(): Link | undefined {
    return this.#links.find(({ isOpen }) => isOpen);
  }

  /** Start a new link now. */
  #connect(): void {
    this.#cancelTimer();
    const link = (this.#next = new Link(this));
    const open = (): void => link.open(() => openSocket(this.#options), typeof this.#options.url === "function");
    if (this.#tokens) this.#tokens.prepare().then(open, (error) => link.end("no_token", String(error)));
    else open();
    this.#changed();
  }

  /** Plan the next attempt after a loss. */
  #retry(): void {
    const ms = backoff(this.#failures++);
    this.#connectIn(ms);
    this.#retryAt = Date.now() + ms;
  }

  #connectIn(ms: number): void {
    this.#cancelTimer();
    this.#timer = later(ms, () => this.#connect());
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
    for (const project of this.#watched) project.leave();
  }

  onOpen(link: Link): void {
    if (!this.#link) this.#moveTo(link);
    this.#authorise(link);
    for (const project of this.#watched) if (!project.isForbidden) project.subscribe(link);
    this.#changed();
  }

  onEnd(link: Link, code: number | string, reason: string, isFinal: boolean): void {
    const isStable = this.#isStable(link);
    if (isStable) this.#failures = 0;
    const mayAskAgain = code === NOT_AUTHORISED && this.#tokens?.refuse(link.token, isStable);
    this.#hasGivenUp = isFinal || (/^4[0-4]\d\d$/.test(String(code)) && !mayAskAgain);
    this.#setError({ code: mayAskAgain ? "no_token" : code, message: reason });
    const wasNext = link === this.#next;
    if (wasNext) this.#next = undefined;
    else this.#link = undefined;
    if (this.#hasGivenUp) this.#closeAll();
    else if (!this.#link && this.#next?.isOpen) this.#moveTo(this.#next);
    else if (!this.#next) this.#retry();
    for (const project of this.#watched) {
      if (project.link !== link) continue;
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

  #isStable(link: Link): boolean {
    return Date.now() - link.workingSince! >= STABLE_MS;
  }

  #setError(error: GatewayError, project?: Project): void {
    if (project) project.error = error;
    else this.#error = error;
    const { onError } = this.#options;
    if (onError) guard(() => onError(error, project?.id));
  }

  /** Move to `#next` once every watched project is subscribed on it, or on neither link because it was refused. */
  #finishMove(): void {
    const next = this.#next;
    if (next?.isOpen && [...this.#watched].every(({ link, error }) => (link ? link === next : error))) {
      this.#moveTo(next);
    }
  }

  // Tokens

  #onToken(): void {
    for (const link of this.#links) this.#authorise(link);
    for (const project of this.#watched) {
      if (!project.isForbidden) continue;
      project.retryAt = 0;
      project.subscribe(this.#openLink);
    }
  }

  /** Show the gateway the token. */
  #authorise(link: Link): void {
    const token = (link.token = this.#tokens?.token);
    if (token) link.send({ type: "auth", token });
    if (token === null) link.end(NOT_AUTHORISED, "signed out");
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
        return this.#onError(link, message);
      case "pong":
        return link.onPong();
      case "connected":
      case "authorised":
        if (message.expiresIn === undefined) return;
        link.workingSince ??= Date.now();
        return this.#tokens?.onAuthorised(message.expiresIn);
      case "unsubscribed":
        return;
      default: // from a newer gateway
        this.#setError({ code: "unknown_type", message: "" });
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
    if (link === this.#next) return link.end("going_away"); // the new replica drains too: try another one
    if (this.#next) return;
    if (this.#isStable(link)) this.#moves = 0;
    // Each new connection may say it too: then this must not become a loop.
    const least = this.#moves < QUICK_MOVES ? 0 : backoff(this.#moves);
    this.#moves++;
    this.#connectIn(Math.max(between(from, to) || 0, least));
  }

  #onError(link: Link, { code, message, projectId = "" }: ErrorMessage): void {
    const project = this.#projects.get(projectId);
    this.#setError({ code: code ?? "", message: message ?? "" }, project);
    if (project) {
      project.retryAt = code === FORBIDDEN ? Infinity : Date.now() + refusalBackoff(++project.refusals);
      // Any other refusal ends the subscription, if there was one; `forbidden` on each link, although only one said so.
      if (project.isForbidden || (project.link === link && code !== "rate_limited")) project.leave();
    }
    this.#finishMove();
    this.#changed();
  }

  // Events of the page

  onOffline(): void {
    // The old link first. The other way round the projects would move back to it, and two losses would be counted.
    for (const link of this.#links.reverse()) link.end("offline");
  }

  /** Retry at once, and probe each link: one that looks open may be dead. */
  probe = (): void => {
    if (this.#hasGivenUp || !this.#watched.size) return;
    for (const link of this.#links) link.probe(WAKE_ANSWER_MS);
    if (!this.#links.length) this.#connect();
    this.#changed();
  };

  onTick(hasSlept: boolean): void {
    for (const project of this.#watched) {
      if (hasSlept) project.resetSilence();
      else project.onTick();
    }
    this.#askAgain();
  }

  /** Subscribe the refused project again that is due longest: one a second, if a connection has no place for fifty. */
  #askAgain(): void {
    const now = Date.now();
    const [due] = [...this.#watched].filter(({ error }) => error).sort((a, b) => a.retryAt - b.retryAt);
    if (!due || due.retryAt > now) return;
    due.retryAt = now + ANSWER_MS;
    due.subscribe(this.#openLink);
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
