/** One project, as a page sees it: its jobs, its last events, and whether they are current. */

import { onNextFrame } from "./frame.js";
import { type JobCounts, Jobs, type News } from "./jobs.js";
import type { Link } from "./link.js";
import type { ErrorCode, EventMessage, Subscribed } from "./messages.js";
import { type ById, type Ended, type Job, type JobData, type JobEvent, publishedAt } from "./state.js";

const REPLAY_MS = 100; // most replays end by themselves within this time; of others, a `pong` tells the end
const MOST_REPLAYED = 20_000; // twice what a gateway remembers: one that never ends its replay must not fill the memory
const WHOLE_ODDS = 0.1; // the chance, each second, to ask for a whole replay: not all pages at once

/** `connected`: the project is subscribed. `disconnected`: waiting to retry, offline, disabled, or given up. */
export type ConnectionStatus = "connecting" | "connected" | "disconnected";

/** Codes of this client, beside the gateway's. `no_token`: there is no good token now, and another one is asked for. */
export type ClientErrorCode = "no_answer" | "offline" | "cannot_connect" | "no_token" | "going_away";

/** Why there is no connection, or what was wrong with a message. */
export interface GatewayError {
  /**
   * What a page may want to tell apart: 4401, the user has to sign in (again); `forbidden`, this project is not theirs;
   * all else is trouble that may pass. A number is a close code: from 4000 to 4499 the client does not try again by itself.
   */
  readonly code: number | ErrorCode | ClientErrorCode | (string & {}); // a newer gateway may have more
  /** The words of the gateway or the browser; empty if there are none. */
  readonly message: string;
}

/** The state of a project at one moment. Immutable; a job that did not change is the same object as before. */
export interface Snapshot<Data = JobData> {
  readonly status: ConnectionStatus;
  /** The last event that arrived, replayed or not. */
  readonly lastEvent: JobEvent<Data> | null;
  /** The last events that arrived, the newest last. */
  readonly events: readonly JobEvent<Data>[];
  /** The jobs by their ids. */
  readonly jobs: ById<Job<Data>>;
  /** How many jobs there are, also those that are not in `jobs` because there are too many. */
  readonly jobCounts: JobCounts;
  /** The snapshot may be out of date: not connected, the gateway lost Redis, a replay is under way, or events were
   * missed for good. */
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
  jobCounts: { running: 0, ended: 0, leftOut: 0 },
  isStale: true,
  staleSince: null,
  recovered: true,
  error: null,
  retryAt: null,
});

/** What a project needs from its client. */
export interface ProjectOwner {
  readonly historyLimit: number;
  readonly jobLimit: number;
  statusOf(project: Project): Pick<Snapshot, "status" | "error" | "retryAt">;
}

/** Callbacks for the events of a project. While a replay arrives they wait for its end. */
export interface Handlers<Data = JobData> {
  /** Called at once with every event; `event.isReplay` marks those from before this client subscribed. */
  onEvent?: ((event: JobEvent<Data>) => void) | undefined;
  /**
   * Called once for each end: `what` is the job or one of its sentences. A job without events of its own ends with its
   * last sentence; then both are reported, the sentence first.
   */
  onTerminal?: ((job: Job<Data>, event: JobEvent<Data>, what: Ended) => void) | undefined;
}

export interface Listener extends Handlers {
  onChange(): void;
  /** True: do not keep the project subscribed for this listener. */
  isPassive?: boolean | undefined;
}

/** Run a function of the page. An exception is reported as uncaught; it must not stop the client. */
export function guard(call: () => void): void {
  try {
    call();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/** Call every listener, by default its `onChange`. */
export function notify(listeners: Iterable<Listener>, call = (listener: Listener): void => listener.onChange()): void {
  for (const listener of [...listeners]) guard(() => call(listener));
}

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
  /** How often in a row it was refused. */
  refusals = 0;
  /** When it is subscribed again after a refusal, in ms since the epoch; Infinity: not before there is another token. */
  retryAt = 0;
  /** The seq of the event that arrived last. Not the highest seq: after a failover of Redis it may fall back. */
  cursor: number | undefined;
  /** Its client. */
  #owner: ProjectOwner;
  /** `seq` of the last `subscribed`: events up to it are a replay, those above it are news. */
  #head = 0;
  /** The events of a replay that has not ended; undefined while there is none. */
  #replay: JobEvent[] | undefined;
  /** The timer of the `ping` whose answer ends `#replay`. */
  #replayTimer: ReturnType<typeof setTimeout> | undefined;
  /** `since` of the last subscribe; 0 asks for everything. */
  #since = 0;
  /** Events up to this seq were reported before a whole replay was asked for. */
  #reportedUpTo = 0;
  /** `recovered` of the last `subscribed`. */
  #recovered = true;
  /** When it last began to receive events (subscribed, live again, awake), in ms since the epoch. */
  #receivingSince = 0;

  // Its jobs

  #jobs: Jobs;
  /** The last events, the newest last. */
  #events = CONNECTING.events;

  // Its snapshot

  /** What pages see; replaced once a frame after a change. */
  snapshot = CONNECTING;
  /** Whether all that is shown is known to be current. */
  #isCurrent = false;
  /** `snapshot.staleSince`. */
  #staleSince: number | null = null;
  /** The next frame builds a snapshot. */
  #isScheduled = false;

  constructor(id: string, owner: ProjectOwner) {
    this.id = id;
    this.#owner = owner;
    this.#jobs = new Jobs(owner.jobLimit);
  }

  // The subscription

  /** Ask to be subscribed on this link, with a replay of what was missed. */
  subscribe(link: Link | undefined, since = this.cursor): void {
    this.#since = since ?? 0;
    link?.send({ type: "subscribe", projectId: this.id, since: since! }); // JSON leaves undefined out
  }

  onSubscribed(link: Link, { seq: head, recovered }: Subscribed): void {
    if (!recovered || link !== this.link) this.#jobs.doubt(!recovered || this.cursor === undefined);
    this.link = link;
    this.error = null;
    this.refusals = this.retryAt = 0;
    this.#head = head;
    if (!this.#reportedUpTo) this.#recovered = recovered;
    // A cursor that the gateway does not know is answered by a whole replay.
    if (head && head !== this.#since) this.#beginReplay(link);
    this.resetSilence();
  }

  /** It is no longer subscribed. */
  leave(): void {
    const heardAt = this.link?.heardAt;
    this.link = undefined;
    this.#reportedUpTo = 0;
    this.#stopReplay(); // half a replay says nothing; the next one begins at the same cursor
    this.changed(heardAt);
  }

  /** The token does not cover it. */
  get isForbidden(): boolean {
    return this.retryAt === Infinity;
  }

  get #isReceiving(): boolean {
    return !!this.link && !this.link.isStale;
  }

  // Replays. The events of one arrive one by one, and are taken in one step: on the way the jobs are a mixture of old
  // and new. It has ended with the event `#head`. That one may be gone (a later attempt replaced it), so the gateway is
  // asked for a `pong` too: it answers in order.

  #beginReplay(link: Link): void {
    const replay = (this.#replay ??= []);
    const end = (): void => {
      if (replay === this.#replay) this.#endReplay();
    };
    clearTimeout(this.#replayTimer);
    this.#replayTimer = setTimeout(() => link.probe(undefined, end), REPLAY_MS);
  }

  #endReplay(): void {
    const events = this.#replay!;
    this.#stopReplay();
    this.cursor = this.#head; // it may fall back: after a failover, the clock of the new Redis may be behind
    const replayed = events.filter(({ seq }) => seq);
    const news = this.#jobs.merge(replayed, Date.now(), !this.#since);
    this.#report(news.filter(({ event }) => event.seq! > this.#reportedUpTo));
    this.#reportedUpTo = 0;
    for (const event of events) if (!event.seq) this.#take(event);
    this.changed();
  }

  #stopReplay(): void {
    this.#replay = undefined;
    clearTimeout(this.#replayTimer);
  }

  /** Ask for a whole replay, if there is room again for jobs that were left out. */
  #askForWhole(): void {
    if (this.#replay || !this.#jobs.hasRoom || Math.random() > WHOLE_ODDS) return;
    this.#reportedUpTo = this.cursor ?? 0;
    this.subscribe(this.link, 0);
  }

  // Events

  onEvent(link: Link, message: EventMessage): void {
    if (link !== this.link) return;
    const { seq } = message;
    const event: JobEvent = { ...message, isReplay: seq! <= this.#head, publishedAt: publishedAt(seq) };
    if (this.#replay && seq! > this.#head) this.#endReplay();
    if (!this.#replay) {
      this.cursor = seq ?? this.cursor;
      this.#take(event);
      return this.changed();
    }
    this.#replay.push(event);
    if (seq === this.#head || this.#replay.length > MOST_REPLAYED) this.#endReplay();
  }

  #take(event: JobEvent): void {
    this.#report(this.#jobs.apply(event, Date.now()));
  }

  /** Tell the listeners of events, and of the ends that they are. */
  #report(news: readonly News[]): void {
    for (const { event, entry, ended } of news) {
      if (!ended) this.#events = [...this.#events, event].slice(-this.#owner.historyLimit);
      notify(this.listeners, (listener) =>
        ended ? listener.onTerminal?.(entry.job, event, ended) : listener.onEvent?.(event),
      );
    }
  }

  /** Count the silence of its jobs from now on: before, their events could not arrive. */
  resetSilence(): void {
    this.#receivingSince = Date.now();
    this.changed();
  }

  /** Called every second: mark jobs whose next event is overdue. */
  onTick(): void {
    if (!this.#isReceiving) return;
    if (this.#jobs.markSilent(this.#receivingSince, Date.now())) this.changed();
    this.#askForWhole();
  }

  // The snapshot

  /** Something changed: build a new snapshot at the next frame. `currentUntil`: when the old one was surely current. */
  changed(currentUntil = Date.now()): void {
    // What was current stays so in a replay: it comes from another replica, or looks for jobs that were left out.
    const isCurrent = this.#isReceiving && (!this.#replay || this.#isCurrent) && !this.#jobs.doubtful.size;
    if (isCurrent) this.#staleSince = null;
    else if (this.#isCurrent) this.#staleSince = currentUntil;
    this.#isCurrent = isCurrent;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    onNextFrame(() => this.#draw());
  }

  #draw(): void {
    this.#isScheduled = false;
    this.snapshot = {
      ...this.#owner.statusOf(this),
      lastEvent: this.#events.at(-1) ?? null,
      events: this.#events,
      jobs: this.#jobs.byId,
      jobCounts: this.#jobs.counts,
      isStale: !this.#isCurrent,
      staleSince: this.#staleSince,
      recovered: this.#recovered,
    };
    notify(this.listeners);
  }
}
