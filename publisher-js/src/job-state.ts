/**
 * One tracked job: what was said of it, what of that arrived, and when the next is due. No I/O, no clock of its own.
 *
 * The phases, figures and rules are those of publisher/job_state.py. Times are milliseconds of one monotonic clock.
 */

import { EventError } from "./errors.js";
import { checkEvent, type End, type Event, type Identity, type Progress, withAttempt } from "./events.js";
import { type Publication, publicationOf, type Sent } from "./publication.js";
import type { TrackOptions } from "./types.js";

export const LEAST_PAUSE_MS = 100; // between two progresses of a job: ten a second look smooth
const MOST_PER_SECOND = 1_000;
export const RETRY_MS = 1_000; // from a try that failed to the next
export const HEARTBEAT_SECONDS = 15;
const MOST_HEARTBEAT_SECONDS = 43_200;
// The promise is two heartbeats: one may be late or lost, and no viewer is alarmed.
const PROMISED_HEARTBEATS = 2;

/** Where a job is on its way. "On its way" means: events were taken, and it is not known yet if they arrived. */
type Phase =
  | "running" // more may be said; nothing is on its way
  | "sending" // more may be said; a progress is on its way
  | "ending next" // it was ended or left while a progress was on its way; its last words follow that
  | "ending" // it was ended or left; its last words are due: the end, the progress before it, or a promise taken back
  | "sending end" // its last words are on their way
  | "over"; // nothing more will be sent

/** An attempt of a job: its number, and what shares it (the job and its sentences). */
export class Attempt {
  /** undefined for an attempt that has none, or none yet: see `isKnown`. */
  number: number | undefined;
  /** Whether the begin was answered. Until then nothing else of the job is sent: the begin would drop it. */
  isKnown: boolean;
  /** The job whose first event asks for the number. */
  readonly beginner: JobState | undefined;
  /** The lowest number that may be given. */
  readonly least: number;
  readonly states: JobState[] = [];
  /** The sentences that the schedule leaves out until `isKnown`. */
  readonly waiting = new Set<JobState>();
  /** The later attempt that replaced this one; nothing more is sent. */
  replacedBy: number | undefined;
  /** Whether the log says so. */
  isTold = false;

  constructor(number: number | undefined, beginner?: JobState, least = 0) {
    this.number = number;
    this.beginner = beginner;
    this.isKnown = beginner === undefined;
    this.least = least;
  }
}

export interface StateOptions extends TrackOptions {
  /** Whether Redis numbers attempts. */
  replay: boolean;
  namespace: string;
}

/**
 * What is known of one job in the process that runs it. Lives from the job's begin until its end arrived.
 *
 * The sender takes what is due (`take`), sends it, and reports what became of it (`settle`); what is said meanwhile is
 * due afterwards.
 */
export class JobState {
  readonly projectId: string;
  readonly identity: Identity;
  readonly attempt: Attempt;
  /** The newest progress. */
  last: Progress;
  /** The end; undefined of a job that runs, or was left without one. */
  end: End | undefined;
  /** When it is due, as the schedule knows it. */
  scheduled = Number.POSITIVE_INFINITY;

  readonly #options: StateOptions;
  readonly #pauseMs: number;
  #heartbeatMs: number | undefined; // undefined: never again
  #nextWithin: number | undefined; // seconds, as the last progress promised them
  #phase: Phase = "running";
  #asksNumber = false; // the begin of the attempt is on its way
  #taken: Progress | undefined; // the newest progress that was taken
  #arrived: Progress | undefined; // the newest progress that arrived
  #hasPromised = false; // the last progress that was taken promised another one
  #sentAt = Number.NEGATIVE_INFINITY;
  #retryAt = Number.NEGATIVE_INFINITY;

  /** Throws `EventError` for a bad id or option. A sentence begins no attempt: others may be at other sentences. */
  constructor(projectId: string, identity: Identity, options: StateOptions, partOf?: Attempt) {
    this.projectId = projectId;
    this.#options = options;
    const {
      jobId,
      jobType,
      sentenceId,
      attempt: number,
    } = publicationOf(
      projectId,
      {
        type: "progress",
        progress: 0,
        ...identity,
        attempt: options.resume?.attempt ?? leastOf(options),
      },
      options.namespace,
    ).event;
    this.identity = { jobId, jobType, ...(sentenceId === undefined ? {} : { sentenceId }) };
    const given = number as number | undefined;
    const begins = options.replay && sentenceId === undefined && options.resume === undefined;
    this.attempt = partOf ?? (begins ? new Attempt(undefined, this, given) : new Attempt(given));
    this.attempt.states.push(this);
    this.#heartbeatMs = checkHeartbeat(options.heartbeat);
    this.#pauseMs = checkPause(options.perSecond);
    this.last = this.checkProgress(0, undefined, options.data);
  }

  /** The state of a part of this job. */
  ofSentence(sentenceId: string): JobState {
    const { data: _, resume: __, ...options } = this.#options;
    return new JobState(this.projectId, { ...this.identity, sentenceId }, options, this.attempt);
  }

  /** Continue the job of another process. `isTold`: it has sent this progress. */
  resume(progress: Progress, isTold: boolean, now: number): void {
    this.last = progress;
    if (!isTold) return;
    this.#arrived = progress;
    this.#sentAt = now;
  }

  // What is said

  /** The event of a progress; throws `EventError`, which names the field. Changes nothing. */
  checkProgress(progress: unknown, message?: unknown, data?: unknown, nextWithin?: unknown): Progress {
    const event = checkEvent({ type: "progress", ...this.identity, progress, message, data, nextWithin }) as Progress;
    return { ...event, progress: shownPercent(event.progress) };
  }

  /** Take a newer progress. A bar never goes backward; text and data stay until the next ones. */
  say(progress: Progress, isForced = false): void {
    const { nextWithin, ...said } = progress;
    this.#nextWithin = nextWithin;
    this.last = {
      ...said,
      progress: Math.max(said.progress, this.last.progress),
      message: said.message ?? this.last.message,
      data: said.data ?? this.last.data,
    };
    if (isForced) this.#sentAt = Number.NEGATIVE_INFINITY;
  }

  /** The job ended: `end` is due at once. */
  finish(end: End): void {
    this.end = end;
    this.#end();
  }

  /** The job goes on elsewhere, or later: what is unsent is due, and its promise is taken back. */
  leave(): void {
    this.#heartbeatMs = undefined;
    this.#end();
  }

  #end(): void {
    this.#retryAt = Number.NEGATIVE_INFINITY; // who ends a job waits for one try
    if (this.isWaiting && this.attempt.beginner) this.attempt.beginner.#retryAt = Number.NEGATIVE_INFINITY;
    if (this.#phase === "running") this.#phase = "ending";
    else if (this.#phase === "sending") this.#phase = "ending next";
    this.#seeIfOver();
  }

  /** A job that was left has its promise to take back, or news to send, or nothing. */
  #seeIfOver(): void {
    if (this.#phase !== "ending" || this.end) return;
    if (this.#hasPromised) {
      this.#arrived = undefined;
      this.#hasPromised = false;
    }
    if (!this.#hasNews) this.#phase = "over";
  }

  /** Nothing more is sent of it, nor of the sentences that wait for its begin. */
  forget(): void {
    this.#phase = "over";
    if (this === this.attempt.beginner) for (const state of this.attempt.waiting) state.forget();
  }

  // How it stands

  /** Whether more can be said. */
  get isOpen(): boolean {
    return this.#phase === "running" || this.#phase === "sending";
  }

  /** Whether nothing more will be sent. */
  get isOver(): boolean {
    return this.#phase === "over";
  }

  /** Whether its last words are due or on their way. */
  get isEnding(): boolean {
    return this.#phase === "ending" || this.#phase === "sending end";
  }

  /** Whether its last words are on their way. */
  get isSendingEnd(): boolean {
    return this.#phase === "sending end";
  }

  /** Whether it is a sentence of a job whose begin was not answered yet. */
  get isWaiting(): boolean {
    return !this.attempt.isKnown && this.attempt.beginner !== this;
  }

  /** Whether something must be sent that is no heartbeat. */
  get hasUnsent(): boolean {
    const isOnItsWay = this.#phase === "sending" || this.#phase === "ending next" || this.#phase === "sending end";
    return !this.isOver && (isOnItsWay || !this.isOpen || this.#hasNews);
  }

  get #hasNews(): boolean {
    return this.last !== this.#arrived;
  }

  /** Be due at once, if there is anything to send. */
  hurry(): void {
    if (this.hasUnsent) this.#sentAt = this.#retryAt = Number.NEGATIVE_INFINITY;
  }

  /** When the next `take` makes sense; infinity for never. */
  due(): number {
    if (this.isWaiting) return Number.POSITIVE_INFINITY;
    if (this.#phase === "ending") return this.#retryAt;
    if (this.#phase !== "running") return Number.POSITIVE_INFINITY;
    if (this.#hasNews) return Math.max(this.#sentAt + this.#pauseMs, this.#retryAt);
    const beat = this.#beatMs;
    return beat === undefined ? beatless : Math.max(this.#sentAt + Math.max(beat, this.#pauseMs), this.#retryAt);
  }

  /** Milliseconds from one sign of life to the next: a shorter promise needs earlier ones. */
  get #beatMs(): number | undefined {
    if (this.#heartbeatMs === undefined || this.#nextWithin === undefined) return this.#heartbeatMs;
    return Math.min(this.#heartbeatMs, (this.#nextWithin * 1_000) / PROMISED_HEARTBEATS);
  }

  // What is sent

  /**
   * The events to send now, in order. `settle` must follow.
   *
   * The begin of an attempt goes alone: what follows it carries the number that is answered.
   */
  take(): Event[] {
    const events: Event[] = [];
    this.#asksNumber = !this.attempt.isKnown;
    const isHeartbeat = !this.#hasNews && !this.#asksNumber;
    if (!isHeartbeat || !this.end) events.push(this.#progress(isHeartbeat));
    this.#taken = this.last;
    if (this.isOpen) this.#phase = "sending";
    else if (this.#asksNumber) this.#phase = "ending next";
    else this.#phase = "sending end";
    if (this.end && !this.#asksNumber) events.push(this.end);
    return events;
  }

  #progress(isHeartbeat: boolean): Progress {
    const { promisesAtOnce = true } = this.#options;
    const own = this.isOpen ? this.#nextWithin : undefined;
    const beats = this.isOpen && this.#heartbeatMs !== undefined && (promisesAtOnce || isHeartbeat);
    this.#hasPromised = own !== undefined || beats;
    if (!this.#hasPromised) return this.last;
    return { ...this.last, nextWithin: own ?? (PROMISED_HEARTBEATS * (this.#heartbeatMs ?? 0)) / 1_000 };
  }

  /** An event that was taken, as it is sent. */
  publication(event: Event): Publication {
    const least = this.#asksNumber ? this.attempt.least : undefined;
    return publicationOf(this.projectId, withAttempt(event, this.attempt.number), this.#options.namespace, least);
  }

  /** What became of an event that was taken; before `settle`. */
  note(sent: Sent): void {
    if (sent.replacedBy !== undefined) this.attempt.replacedBy = sent.replacedBy;
    else if (this.#asksNumber) this.attempt.number = sent.attempt;
  }

  /** Report whether the events that were taken last arrived. */
  settle(now: number, isSent: boolean): void {
    if (isSent) {
      this.#sentAt = now;
      this.#arrived = this.#taken;
      if (this.#asksNumber) this.attempt.isKnown = true;
    } else if (this.#asksNumber || this.#phase !== "ending next") {
      this.#retryAt = now + RETRY_MS; // else the end is due at once: it was not tried
    }
    this.#asksNumber = false;
    if (this.#phase === "sending") this.#phase = "running";
    else if (this.#phase === "ending next") this.#phase = "ending";
    else if (this.#phase === "sending end") this.#phase = isSent ? "over" : "ending";
    if (this.attempt.replacedBy !== undefined) this.forget();
    else this.#seeIfOver();
  }
}

const beatless = Number.POSITIVE_INFINITY;

const leastOf = ({ attempt }: TrackOptions): unknown => (attempt === "next" ? undefined : attempt);

/** Percents as people read them: one decimal, and 100 only for a job that is done. */
function shownPercent(value: number): number {
  const rounded = Math.round(value * 10) / 10;
  return value === 100 ? 100 : Math.min(rounded, 99.9);
}

function checkHeartbeat(seconds: unknown = HEARTBEAT_SECONDS): number | undefined {
  if (seconds === null) return undefined;
  if (typeof seconds === "number" && seconds > 0 && seconds <= MOST_HEARTBEAT_SECONDS) return seconds * 1_000;
  throw new EventError({
    heartbeat: `must be seconds above 0, and at most ${MOST_HEARTBEAT_SECONDS}, or null for none`,
  });
}

function checkPause(perSecond: unknown): number {
  if (perSecond === undefined) return LEAST_PAUSE_MS;
  if (typeof perSecond === "number" && perSecond > 0 && perSecond <= MOST_PER_SECOND) return 1_000 / perSecond;
  throw new EventError({ perSecond: `must be a number above 0, and at most ${MOST_PER_SECOND}` });
}

export type EndOf = (state: JobState) => End;
