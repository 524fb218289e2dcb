/** One project, as a page sees it: its jobs, its newest events, and how far they can be relied on. */

import { onNextFrame } from "./frame.js";
import { apply, type Entry, EVENTS, type Job, type JobEvent, markSilent, own, running } from "./jobs.js";
import type { Link } from "./link.js";
import type { Subscribed } from "./messages.js";

const MOST_JOBS = 1_000; // as many as the gateway remembers of a project

/** `connected`: the project is subscribed. `disconnected`: waiting to retry, offline, disabled, or given up. */
export type ConnectionStatus = "connecting" | "connected" | "disconnected";

/** Why there is no connection, or what was wrong with a message. */
export interface GatewayError {
  /** A close code (4000 to 4499: it is not tried again), an error code of the gateway, or one of this client: `no_answer`,
   * `offline`, `cannot_connect`, `no_token`, `bad_message`, `unknown_type`, `bad_project_id`, `going_away`. */
  readonly code: number | string;
  /** What the gateway or the browser says to it; empty where the code says all. */
  readonly message: string;
}

/** How a project stands at one moment. Never changed once made; a job that did not change keeps its identity. */
export interface Snapshot {
  readonly status: ConnectionStatus;
  /** The newest event that is known, replayed or not. */
  readonly lastEvent: JobEvent | null;
  /** The last events that arrived, the newest last. */
  readonly events: readonly JobEvent[];
  /** Each job by its id, as it stands. */
  readonly jobs: Readonly<Record<string, Job>>;
  /** What is shown may be old: not connected, or the gateway lost its own feed, or something was missed for good. */
  readonly isStale: boolean;
  /** Until when all was known to be current, in milliseconds since the epoch; null while it is, or if it never was. */
  readonly staleSince: number | null;
  /** False: something was missed that the gateway no longer remembers. */
  readonly recovered: boolean;
  readonly error: GatewayError | null;
  /** When the next connection is tried, in milliseconds since the epoch; null if none is waited for. */
  readonly retryAt: number | null;
}

export const CONNECTING: Snapshot = Object.freeze({
  status: "connecting",
  lastEvent: null,
  events: Object.freeze([]),
  jobs: Object.freeze({}),
  isStale: true,
  staleSince: null,
  recovered: true,
  error: null,
  retryAt: null,
});

export const IDLE: Snapshot = /* @__PURE__ */ Object.freeze({ ...CONNECTING, status: "disconnected" });

/** What a project needs of its client. */
export interface Connection {
  readonly historyLimit: number;
  statusOf(project: Project): Pick<Snapshot, "status" | "error" | "retryAt">;
}

/** What can be told to those who listen to a project. */
export interface Handlers {
  /** Every event, at once; `event.isReplay` marks what happened before this client subscribed. */
  onEvent?: ((event: JobEvent) => void) | undefined;
  /** Each end of a job, or of a sentence of it, once. */
  onTerminal?: ((job: Job, event: JobEvent) => void) | undefined;
}

export interface Listener extends Handlers {
  onChange(): void;
  /** Be told, but do not keep the project subscribed. */
  isPassive?: boolean | undefined;
}

/** Tell everyone. A page's own mistake is its own: it is reported as uncaught, and stops nothing here. */
export function tell(listeners: Iterable<Listener>, call: (listener: Listener) => void): void {
  for (const listener of [...listeners]) {
    try {
      call(listener);
    } catch (error) {
      setTimeout(() => {
        throw error;
      });
    }
  }
}

/** Lives as long as anybody listens to it, and a little longer. Events change it at once, its snapshot once a frame. */
export class Project {
  readonly id: string;
  readonly listeners = new Set<Listener>();
  /** The time it is kept after the last of them. */
  linger: ReturnType<typeof setTimeout> | undefined;
  /** The link on which it is subscribed: events that come by another one are not taken. */
  source: Link | undefined;
  /** Why the gateway does not let it be watched. */
  error: GatewayError | null = null;
  /** The last seq that arrived, not the highest: after a failover of Redis seq may fall back, and arrival counts. */
  cursor: number | undefined;
  snapshot = CONNECTING;
  #connection: Connection;
  #entries = new Map<string, Entry>();
  #jobs: Snapshot["jobs"] | undefined = CONNECTING.jobs; // undefined: to be made anew
  #events = CONNECTING.events;
  #head = 0; // `subscribed.seq`: events up to it are replayed, those above are news
  #recovered = true;
  /** After a gap: the parts of jobs that ran before it and of which there was no news since. */
  #doubtful = new Set<string>();
  #staleSince: number | null = null;
  #isCurrent = false;
  #hearsSince = 0;
  #isScheduled = false;

  constructor(id: string, connection: Connection) {
    this.id = id;
    this.#connection = connection;
  }

  /** Subscribe on this link, for what was missed. */
  ask(link: Link | undefined): void {
    link?.send({ type: "subscribe", projectId: this.id, since: this.cursor! }); // undefined is left out of JSON
  }

  // What the link brings

  onSubscribed(link: Link, { seq: head, recovered }: Subscribed): void {
    if (!recovered || link !== this.source) {
      for (const entry of this.#entries.values()) {
        for (const [id, { jobId, seq }] of running(entry)) {
          // An event without a seq is replayed to nobody, so the next one may have been missed.
          if (!recovered || this.cursor === undefined || seq === undefined) this.#doubtful.add(key(jobId, id));
        }
      }
    }
    this.source = link;
    this.error = null;
    this.#head = head;
    this.#recovered = recovered;
    this.hear();
  }

  onEvent(link: Link, message: Omit<JobEvent, "isReplay">): void {
    if (link !== this.source) return;
    this.cursor = message.seq ?? this.cursor;
    const event = { ...message, isReplay: message.seq! <= this.#head } as JobEvent;
    const { jobId, sentenceId } = event;
    const before = this.#entries.get(jobId);
    const entry = apply(before, event, Date.now());
    if (entry) {
      this.#doubtful.delete(key(jobId, sentenceId));
      this.#entries.set(jobId, entry);
      this.#jobs = undefined;
      if (this.#entries.size > MOST_JOBS) this.#forgetOne();
      this.#events = [...this.#events, event].slice(-this.#connection.historyLimit);
      tell(this.listeners, ({ onEvent }) => onEvent?.(event));
      const known = own(before?.parts, sentenceId ?? "");
      const isNews = known?.status !== EVENTS[event.type][0] || event.attempt! > known.attempt!;
      if (event.type !== "progress" && isNews) tell(this.listeners, ({ onTerminal }) => onTerminal?.(entry.job, event));
    }
    this.changed();
  }

  /** It hears from now on, if its link does: so silence counts from now on. */
  hear(): void {
    this.#hearsSince = Date.now();
    this.changed();
  }

  /** Time passed: a job that promised an event may have broken its word. */
  onTick(): void {
    if (!this.#hears) return;
    for (const [id, entry] of this.#entries) {
      const marked = markSilent(entry, this.#hearsSince, Date.now());
      if (marked === entry) continue;
      this.#entries.set(id, marked);
      this.#jobs = undefined;
      this.changed();
    }
  }

  /** It is not subscribed any more. */
  leave(): void {
    const heardAt = this.source?.heardAt;
    this.source = undefined;
    this.changed(heardAt);
  }

  // What a page sees

  /** Something of it changed; `currentUntil` is when it was surely right for the last time. */
  changed(currentUntil = Date.now()): void {
    const isCurrent = this.#hears && !this.#doubtful.size;
    if (isCurrent) this.#staleSince = null;
    else if (this.#isCurrent) this.#staleSince = currentUntil;
    this.#isCurrent = isCurrent;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    onNextFrame(() => {
      this.#isScheduled = false;
      this.#jobs ??= Object.fromEntries([...this.#entries].map(([id, { job }]) => [id, job]));
      this.snapshot = {
        ...this.#connection.statusOf(this),
        lastEvent: this.#events.at(-1) ?? null,
        events: this.#events,
        jobs: this.#jobs,
        isStale: !this.#isCurrent,
        staleSince: this.#staleSince,
        recovered: this.#recovered,
      };
      tell(this.listeners, ({ onChange }) => onChange());
    });
  }

  get #hears(): boolean {
    return !!this.source && !this.source.isStale;
  }

  /** The job that came first goes; one that ended, if there is one. */
  #forgetOne(): void {
    const ended = [...this.#entries.values()].find(({ job }) => job.isTerminal);
    const [id] = ended ? [ended.job.jobId] : this.#entries.keys();
    this.#entries.delete(id!);
    for (const part of this.#doubtful) if (part.startsWith(key(id!))) this.#doubtful.delete(part);
  }
}

const key = (jobId: string, sentenceId = ""): string => `${jobId}\n${sentenceId}`;
