/** What is known of a project's jobs, from their events. Pure: knows no connection, page or clock. */

import type { JobCompleteMessage, JobFailedMessage, ProgressMessage, Result } from "./messages.js";

/** An event of a job, as it arrived. */
export type JobEvent = (ProgressMessage | JobCompleteMessage | JobFailedMessage) & {
  /** True: it happened before this client subscribed and was sent again; false: it is news. */
  readonly isReplay: boolean;
};

export type JobStatus = "running" | "complete" | "failed";

/** How a job, or one of its sentences, stands: what its last event said, and what follows from it. */
export interface JobState {
  readonly jobId: string;
  readonly jobType: JobEvent["jobType"];
  readonly status: JobStatus;
  /** 0 to 100; never runs backward within an attempt. */
  readonly percent: number;
  /** What goes on, for people. */
  readonly message?: string | undefined;
  /** What a complete job made. */
  readonly result?: Result | undefined;
  /** Why a job failed, for people. */
  readonly error?: string | undefined;
  readonly attempt?: number | undefined;
  readonly seq?: number | undefined;
  /** Seconds within which the job promised its next event. */
  readonly nextWithin?: number | undefined;
  /** When its last event arrived, in milliseconds since the epoch. */
  readonly updatedAt: number;
  /** It has ended, well or badly. */
  readonly isTerminal: boolean;
  /** It runs, and did not keep its promise (`nextWithin`): its worker may be dead. */
  readonly isSilent: boolean;
}

/** A job by its id: what its own events say, or without any, what those of its sentences add up to. */
export interface Job extends JobState {
  readonly sentences: Readonly<Record<string, JobState>>;
}

/** A job, and its parts: its sentences by their ids, and under "" what its own events say. Never changed once made. */
export interface Entry {
  readonly job: Job;
  readonly parts: Readonly<Record<string, JobState>>;
}

/** The fields of all three events. */
type AnyEvent = JobEvent & Partial<Pick<ProgressMessage, "progress" | "message">>;

/** What each event makes of its job, and the field without which a message says nothing. */
export const EVENTS: Record<JobEvent["type"], [JobStatus, string]> & Record<"subscribed", [null, string]> = {
  progress: ["running", "progress"],
  job_complete: ["complete", "result"],
  job_failed: ["failed", "error"],
  subscribed: [null, "seq"],
};

/** Whether `event` comes after what `state` says. */
function isNewer(state: JobState, event: JobEvent): boolean {
  const { attempt = NaN, seq = Infinity } = event;
  const before = state.attempt ?? NaN; // no comparison with it holds
  if (attempt > before) return true;
  if (attempt < before) return false;
  // An end beats a running job even with a lower seq: a Redis that failed over may have a clock that is behind.
  if (seq <= (state.seq ?? -1)) return !state.isTerminal && event.type !== "progress";
  if (!state.isTerminal) return true;
  // An end is final within its attempt. Where attempts are not numbered, a progress of 0 says that it begins anew.
  return attempt !== before && (event.type !== "progress" || event.progress === 0);
}

/** What `state` becomes by an event that is newer. */
function advance(state: JobState | undefined, event: AnyEvent, now: number): JobState {
  const before = state && goesOn(state, event) ? state : undefined;
  const [status] = EVENTS[event.type];
  return {
    ...event,
    status,
    percent: status === "complete" ? 100 : Math.max(before?.percent ?? 0, event.progress ?? 0),
    message: event.message ?? before?.message,
    updatedAt: now,
    isTerminal: status !== "running",
    isSilent: false,
  };
}

/** Whether `event` belongs to the run that it is in, so that its bar may not run backward. */
const goesOn = (state: JobState, event: Pick<JobState, "attempt">): boolean =>
  !state.isTerminal && !(event.attempt! > state.attempt!);

/** A record's own value: a job may be called `constructor`. */
export const own = <T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined =>
  record && Object.hasOwn(record, key) ? record[key] : undefined;

/** What the sentences of a job without events of its own add up to, after one of them became `state`. */
function sum(before: Job | undefined, parts: JobState[], state: JobState): JobState {
  const isTerminal = parts.every((part) => part.isTerminal);
  const failed = parts.find((part) => part.status === "failed");
  return {
    ...state,
    result: undefined,
    error: isTerminal ? failed?.error : undefined,
    status: isTerminal ? (failed ?? state).status : "running",
    percent: parts.reduce((total, part) => total + part.percent, 0) / parts.length,
    attempt: before && state.attempt! < before.attempt! ? before.attempt : state.attempt,
    isTerminal,
  };
}

function put(entry: Entry | undefined, id: string, state: JobState): Entry {
  const parts = { ...entry?.parts, [id]: state };
  const { "": main, ...sentences } = parts;
  const all = Object.values(parts);
  const { seq, updatedAt } = state;
  const before = entry?.job;
  const job = main ?? sum(before, all, state);
  const percent = before && goesOn(before, state) ? Math.max(before.percent, job.percent) : job.percent;
  const isSilent = !job.isTerminal && all.some((part) => part.isSilent);
  return { job: { ...job, percent, sentences, seq, updatedAt, isSilent }, parts };
}

/** What a job becomes by an event; undefined for an event that is older than what is known. */
export function apply(entry: Entry | undefined, event: JobEvent, now: number): Entry | undefined {
  const id = event.sentenceId ?? "";
  const before = own(entry?.parts, id);
  return before && !isNewer(before, event) ? undefined : put(entry, id, advance(before, event, now));
}

/** The parts of a job that run, by their ids. */
export const running = ({ job, parts }: Entry): [string, JobState][] =>
  job.isTerminal ? [] : Object.entries(parts).filter(([, part]) => !part.isTerminal);

/** The job with those parts marked that broke their promise; `since` is when this client began to hear. */
export function markSilent(entry: Entry, since: number, now: number): Entry {
  const due = running(entry).filter(
    ([, { isSilent, updatedAt, nextWithin }]) => !isSilent && Math.max(updatedAt, since) + nextWithin! * 1000 <= now,
  ); // false without a promise
  if (!due.length) return entry;
  const parts = { ...entry.parts, ...Object.fromEntries(due.map(([id, part]) => [id, { ...part, isSilent: true }])) };
  const { "": _, ...sentences } = parts;
  return { job: { ...entry.job, sentences, isSilent: true }, parts };
}
