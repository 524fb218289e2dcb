/** What pages see of events, jobs and sentences. */

import type { EventMessage, JobFailedMessage, JobType, Result } from "./messages.js";
import { type JobStatus, percentOf, STATUS } from "./rules.js";

/** The author's own fields of an event, unless a type parameter says more about them. */
export type JobData = Record<string, unknown>;

export type Reason = NonNullable<JobFailedMessage["reason"]>;

type WithData<Event, Data> = Event extends unknown ? Omit<Event, "data"> & { readonly data?: Data } : never;

/** An event of a job, as it arrived. `Data` is the type of its `data`: nothing checks it at run time. */
export type JobEvent<Data = JobData> = WithData<EventMessage, Data> & {
  /** True: the event was published before this client subscribed, and was sent again. False: it is news. */
  readonly isReplay: boolean;
  /** When it was published, by the clock of Redis, in ms since the epoch; null for an event without `seq`. */
  readonly publishedAt: number | null;
};

/** What has ended: the job, or one of its sentences. */
export type Ended = "job" | "sentence";

/** The state of a job or of one of its sentences, as its last event gives it. */
export interface JobState<Data = JobData> {
  readonly jobId: string;
  readonly jobType: JobType;
  readonly status: JobStatus;
  /** 0 to 100; 100 when complete, 0 when failed. */
  readonly percent: number;
  /** What the job does now, for people. */
  readonly message?: string | undefined;
  /** The author's own fields. */
  readonly data?: Data | undefined;
  /** The output of a complete job. */
  readonly result?: Result | undefined;
  /** Why a job failed, for people. */
  readonly error?: string | undefined;
  /** Why a job failed, for programs; undefined unless it failed. */
  readonly reason?: Reason | undefined;
  readonly attempt?: number | undefined;
  readonly seq?: number | undefined;
  /** Seconds within which the job promised its next event. */
  readonly nextWithin?: number | undefined;
  /** When its last event was published, by the clock of Redis, in ms since the epoch; null for one without `seq`. */
  readonly publishedAt: number | null;
  /** True once it is complete or failed. */
  readonly isTerminal: boolean;
  /** It runs, but its next event is overdue (`nextWithin`): its worker may be dead. */
  readonly isSilent: boolean;
}

/** Values by id. An id that is not there gives `undefined`, so the type asks for a check. */
export type ById<T> = { readonly [id: string]: T | undefined };

/** The values of a record by id, without the `undefined` of its type. */
export const valuesOf = <T>(record: ById<T>): T[] => Object.values(record) as T[];

/** A job: the state that its own events give it or, if it has none, the sum of its sentences. */
export interface Job<Data = JobData> extends JobState<Data> {
  /** The sentences by their ids. Made when it is first read. */
  readonly sentences: ById<JobState<Data>>;
}

/** The record's own value. A plain look-up would find `Object.prototype.constructor` for a job called "constructor". */
export const own = <T>(record: { readonly [key: string]: T } | undefined, key: string): T | undefined =>
  record && Object.hasOwn(record, key) ? record[key] : undefined;

/** The clock of Redis when it gave out `seq`, in ms since the epoch. */
export const publishedAt = (seq: number | undefined): number | null => (seq ? Math.floor(seq / 1000) : null);

/** The last event of a part: of a sentence, or of the job itself. A new event makes a new one. */
export class Part {
  /** The sentence's id; "" for the job itself. */
  readonly id: string;
  readonly event: JobEvent;
  /** When it arrived, in ms since the epoch. */
  readonly heardAt: number;
  /** Which end its event is; undefined while it runs. Another event may say the same end again. */
  readonly end: string | undefined;
  /** Its next event is overdue. */
  readonly isSilent: boolean;
  /** The value of `state`. */
  #state: JobState | undefined;

  constructor(event: JobEvent, heardAt: number, isSilent = false) {
    this.id = event.sentenceId ?? "";
    this.event = event;
    this.heardAt = heardAt;
    this.end = endOf(STATUS[event.type], event.attempt);
    this.isSilent = isSilent;
  }

  /** What pages see; always the same object. */
  get state(): JobState {
    const { event, end, isSilent } = this;
    this.#state ??= {
      ...event, // with fields that the type of a state does not name
      status: STATUS[event.type],
      percent: percentOf(event),
      reason: event.type === "job_failed" ? (event.reason ?? "error") : undefined,
      isTerminal: !!end,
      isSilent,
    };
    return this.#state;
  }
}

/** The name of an end of this attempt; undefined where there is none yet. */
export const endOf = (status: JobStatus, attempt: number | undefined): string | undefined =>
  status === "running" ? undefined : `${status} ${attempt}`;
