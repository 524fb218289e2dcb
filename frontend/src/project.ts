/** One project, as a page sees it: its jobs, its last events, and whether they are current. */

import { onNextFrame } from "./frame.js";
import { apply, type Entry, type Job, type JobEvent, markSilent, own, runningParts, STATUS } from "./jobs.js";
import type { Link } from "./link.js";
import type { Subscribed } from "./messages.js";

const MOST_JOBS = 1_000; // the gateway remembers as many of a project

/** `connected`: the project is subscribed. `disconnected`: waiting to retry, offline, disabled, or given up. */
export type ConnectionStatus = "connecting" | "connected" | "disconnected";

/** Why there is no connection, or what was wrong with a message. */
export interface GatewayError {
  /**
   * A close code (4000 to 4499: the client does not try again), an error code of the gateway, or a code of this client:
   * `no_answer`, `offline`, `cannot_connect`, `no_token`, `bad_message`, `unknown_type`, `bad_project_id` or
   * `going_away`.
   */
  readonly code: number | string;
  /** The words of the gateway or the browser; empty if there are none. */
  readonly message: string;
}

/** The state of a project at one moment. Immutable; a job that did not change is the same object as before. */
export interface Snapshot {
  readonly status: ConnectionStatus;
  /** The last event that arrived, replayed or not. */
  readonly lastEvent: JobEvent | null;
  /** The last events that arrived, the newest last. */
  readonly events: readonly JobEvent[];
  /** The jobs by their ids. */
  readonly jobs: Readonly<Record<string, Job>>;
  /** The snapshot may be out of date: not connected, the gateway lost Redis, or events were missed for good. */
  readonly isStale: boolean;
  /** When the snapshot was last known to be current, in milliseconds since the epoch; null while it is, or if it never
   * was. */
  readonly staleSince: number | null;
  /** False: events were missed that the gateway no longer remembers. */
  readonly recovered: boolean;
  readonly error: GatewayError | null;
  /** When the next attempt to connect starts, in milliseconds since the epoch; null if none is planned. */
  readonly retryAt: number | null;
}

/** The snapshot before anything is known. */
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

/** The snapshot when nothing is watched. */
export const IDLE: Snapshot = /* @__PURE__ */ Object.freeze({ ...CONNECTING, status: "disconnected" });

/** What a project needs from its client. */
export interface ProjectOwner {
  readonly historyLimit: number;
  statusOf(project: Project): Pick<Snapshot, "status" | "error" | "retryAt">;
}

/** Callbacks for the events of a project. */
export interface Handlers {
  /** Called at once with every event; `event.isReplay` marks those from before this client subscribed. */
  onEvent?: ((event: JobEvent) => void) | undefined;
  /** Called once for each end of a job, or of a sentence of it. */
  onTerminal?: ((job: Job, event: JobEvent) => void) | undefined;
}

export interface Listener extends Handlers {
  onChange(): void;
  /** True: do not keep the project subscribed for this listener. */
  isPassive?: boolean | undefined;
}

/**
 * Call every listener, by default its `onChange`. An exception of one is reported as uncaught; it must not stop the
 * client or the other listeners.
 */
export function notify(listeners: Iterable<Listener>, call = ({ onChange }: Listener): void => onChange()): void {
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

/** Names a part of a job; `\n` cannot stand in an id. */
const partKey = (jobId: string, sentenceId = ""): string => `${jobId}\n${sentenceId}`;

/** Lives from its first listener to a moment after its last. Events change it at once, its snapshot once a frame. */
export class Project {
  readonly id: string;

  // Its listeners

  /** Those who watch it, the passive ones too. */
  readonly listeners = new Set<Listener>();
  /** The timer that unsubscribes it a moment after its last active listener left. */
  linger: ReturnType<typeof setTimeout> | undefined;

  // Its subscription

  /** The link on which it is subscribed; events from any other link are ignored. */
  link: Link | undefined;
  /** Why the gateway refused to subscribe it. */
  error: GatewayError | null = null;
  /** The seq of the event that arrived last. Not the highest seq: after a failover of Redis it may fall back. */
  cursor: number | undefined;
  /** Its client. */
  #owner: ProjectOwner;
  /** `seq` of the last `subscribed`: events up to it are a replay, those above it are news. */
  #head = 0;
  /** `recovered` of the last `subscribed`. */
  #recovered = true;
  /** When it last began to receive events (subscribed, live again, awake), in ms since the epoch. */
  #receivingSince = 0;

  // Its jobs

  /** What is known of each job, by its id. */
  #entries = new Map<string, Entry>();
  /** The parts of jobs that ran before a gap, and had no event since: they may have ended unseen. */
  #doubtful = new Set<string>();
  /** The last events, the newest last. */
  #events = CONNECTING.events;

  // Its snapshot

  /** What pages see; replaced once a frame after a change. */
  snapshot = CONNECTING;
  /** `snapshot.jobs`; undefined after a change, until it is built again. */
  #jobs: Snapshot["jobs"] | undefined = CONNECTING.jobs;
  /** Whether all that is shown is known to be current. */
  #isCurrent = false;
  /** `snapshot.staleSince`. */
  #staleSince: number | null = null;
  /** The next frame builds a snapshot. */
  #isScheduled = false;

  constructor(id: string, owner: ProjectOwner) {
    this.id = id;
    this.#owner = owner;
  }

  // The subscription

  /** Ask to be subscribed on this link, with a replay of what was missed. */
  subscribe(link: Link | undefined): void {
    link?.send({ type: "subscribe", projectId: this.id, since: this.cursor! }); // JSON leaves undefined out
  }

  onSubscribed(link: Link, { seq: head, recovered }: Subscribed): void {
    if (!recovered || link !== this.link) this.#doubtRunning(recovered);
    this.link = link;
    this.error = null;
    this.#head = head;
    this.#recovered = recovered;
    this.resetSilence();
  }

  /** It is no longer subscribed. */
  leave(): void {
    const heardAt = this.link?.heardAt;
    this.link = undefined;
    this.changed(heardAt);
  }

  get #isReceiving(): boolean {
    return !!this.link && !this.link.isStale;
  }

  /** Mark the running parts that may have ended in a gap. */
  #doubtRunning(recovered: boolean): void {
    for (const entry of this.#entries.values()) {
      for (const [id, { jobId, seq }] of runningParts(entry)) {
        // The gateway does not replay an event without seq, so the one after it may have been missed.
        if (!recovered || this.cursor === undefined || seq === undefined) this.#doubtful.add(partKey(jobId, id));
      }
    }
  }

  // Jobs

  onEvent(link: Link, message: Omit<JobEvent, "isReplay">): void {
    if (link !== this.link) return;
    this.cursor = message.seq ?? this.cursor;
    const event = { ...message, isReplay: message.seq! <= this.#head } as JobEvent;
    const before = this.#entries.get(event.jobId);
    const entry = apply(before, event, Date.now());
    if (entry) {
      this.#doubtful.delete(partKey(event.jobId, event.sentenceId));
      this.#entries.set(event.jobId, entry);
      this.#jobs = undefined;
      if (this.#entries.size > MOST_JOBS) this.#forgetOne();
      this.#events = [...this.#events, event].slice(-this.#owner.historyLimit);
      this.#report(before, entry.job, event);
    }
    this.changed();
  }

  /** Tell the listeners of an event, and of the end that it may be. */
  #report(before: Entry | undefined, job: Job, event: JobEvent): void {
    notify(this.listeners, ({ onEvent }) => onEvent?.(event));
    const known = own(before?.parts, event.sentenceId ?? "");
    const isNews = known?.status !== STATUS[event.type] || event.attempt! > known.attempt!;
    if (event.type !== "progress" && isNews) notify(this.listeners, ({ onTerminal }) => onTerminal?.(job, event));
  }

  /** Forget the oldest job that has ended or, if all run, the oldest job. */
  #forgetOne(): void {
    const ended = [...this.#entries.values()].find(({ job }) => job.isTerminal);
    const [id] = ended ? [ended.job.jobId] : this.#entries.keys();
    this.#entries.delete(id!);
    for (const part of this.#doubtful) if (part.startsWith(partKey(id!))) this.#doubtful.delete(part);
  }

  /** Count the silence of its jobs from now on: before, their events could not arrive. */
  resetSilence(): void {
    this.#receivingSince = Date.now();
    this.changed();
  }

  /** Called every second: mark jobs whose next event is overdue. */
  onTick(): void {
    if (!this.#isReceiving) return;
    for (const [id, entry] of this.#entries) {
      const marked = markSilent(entry, this.#receivingSince, Date.now());
      if (marked === entry) continue;
      this.#entries.set(id, marked);
      this.#jobs = undefined;
      this.changed();
    }
  }

  // The snapshot

  /** Something changed: build a new snapshot at the next frame. `currentUntil`: when the old one was surely current. */
  changed(currentUntil = Date.now()): void {
    const isCurrent = this.#isReceiving && !this.#doubtful.size;
    if (isCurrent) this.#staleSince = null;
    else if (this.#isCurrent) this.#staleSince = currentUntil;
    this.#isCurrent = isCurrent;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    onNextFrame(() => this.#draw());
  }

  #draw(): void {
    this.#isScheduled = false;
    this.#jobs ??= Object.fromEntries([...this.#entries].map(([id, { job }]) => [id, job]));
    this.snapshot = {
      ...this.#owner.statusOf(this),
      lastEvent: this.#events.at(-1) ?? null,
      events: this.#events,
      jobs: this.#jobs,
      isStale: !this.#isCurrent,
      staleSince: this.#staleSince,
      recovered: this.#recovered,
    };
    notify(this.listeners);
  }
}
