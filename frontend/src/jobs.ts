/** The state of a project's jobs, computed from their events. Pure: no connection, page or clock. */

import type { JobCompleteMessage, JobFailedMessage, ProgressMessage, Result } from "./messages.js";

/** An event of a job, as it arrived. */
export type JobEvent = (ProgressMessage | JobCompleteMessage | JobFailedMessage) & {
  /** True: the event was published before this client subscribed, and was sent again. False: it is news. */
  readonly isReplay: boolean;
};

export type JobStatus = "running" | "complete" | "failed";

/** The state of a job or of one of its sentences. */
export interface JobState {
  readonly jobId: string;
  readonly jobType: JobEvent["jobType"];
  readonly status: JobStatus;
  /** 0 to 100; never goes down within an attempt. */
  readonly percent: number;
  /** What the job does now, for people. */
  readonly message?: string | undefined;
  /** The output of a complete job. */
  readonly result?: Result | undefined;
  /** Why a job failed, for people. */
  readonly error?: string | undefined;
  readonly attempt?: number | undefined;
  readonly seq?: number | undefined;
  /** Seconds within which the job promised its next event. */
  readonly nextWithin?: number | undefined;
  /** When its last event arrived, in milliseconds since the epoch. */
  readonly updatedAt: number;
  /** True once it is complete or failed. */
  readonly isTerminal: boolean;
  /** It runs, but its next event is overdue (`nextWithin`): its worker may be dead. */
  readonly isSilent: boolean;
}

/** A job: the state that its own events give it or, if it has none, the sum of its sentences. */
export interface Job extends JobState {
  /** The sentences by their ids. */
  readonly sentences: Readonly<Record<string, JobState>>;
}

/** What is kept of one job. Immutable: an event makes a new one. */
export interface Entry {
  /** The job as pages see it. */
  readonly job: Job;
  /** The state of each sentence by its id; under "" that of the job's own events. */
  readonly parts: Readonly<Record<string, JobState>>;
}

/** An event of any type, with the fields of all three. */
type AnyEvent = JobEvent & Partial<Pick<ProgressMessage, "progress" | "message">>;

/** The status that an event gives its job or sentence. */
export const STATUS: Record<JobEvent["type"], JobStatus> = {
  progress: "running",
  job_complete: "complete",
  job_failed: "failed",
};

/** The record's own value. A plain look-up would find `Object.prototype.constructor` for a job called "constructor". */
export const own = <T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined =>
  record && Object.hasOwn(record, key) ? record[key] : undefined;

/** Does `event` replace `state`? */
function isNewer(state: JobState, event: JobEvent): boolean {
  const { attempt = NaN, seq = Infinity } = event;
  const before = state.attempt ?? NaN; // every comparison with NaN is false
  if (attempt > before) return true;
  if (attempt < before) return false;
  // An end replaces a running state even with a lower seq: after a failover, the clock of the new Redis may be behind.
  if (seq <= (state.seq ?? -1)) return !state.isTerminal && event.type !== "progress";
  if (!state.isTerminal) return true;
  // An end is final within its attempt. Without attempt numbers, a progress of 0 starts the job anew.
  return attempt !== before && (event.type !== "progress" || event.progress === 0);
}

/** Does `event` continue the run of `state`? Within a run the percentage never goes down. */
const isSameRun = (state: JobState, event: Pick<JobState, "attempt">): boolean =>
  !state.isTerminal && !(event.attempt! > state.attempt!);

/** The state after an event that is newer than `state`. */
function advance(state: JobState | undefined, event: AnyEvent, now: number): JobState {
  const before = state && isSameRun(state, event) ? state : undefined;
  const status = STATUS[event.type];
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

/** The state of a job without events of its own, after one of its sentences became `state`. */
function sumOf(sentences: JobState[], before: Job | undefined, state: JobState): JobState {
  const isTerminal = sentences.every((sentence) => sentence.isTerminal);
  const failed = sentences.find((sentence) => sentence.status === "failed");
  return {
    ...state,
    result: undefined,
    error: isTerminal ? failed?.error : undefined,
    status: isTerminal ? (failed ?? state).status : "running",
    percent: sentences.reduce((total, { percent }) => total + percent, 0) / sentences.length,
    attempt: before && state.attempt! < before.attempt! ? before.attempt : state.attempt,
    isTerminal,
  };
}

/** The entry after its part `id` became `state`. */
function withPart(entry: Entry | undefined, id: string, state: JobState): Entry {
  const parts = { ...entry?.parts, [id]: state };
  const { "": main, ...sentences } = parts;
  const all = Object.values(parts);
  const { seq, updatedAt } = state;
  const before = entry?.job;
  const job = main ?? sumOf(all, before, state);
  const percent = before && isSameRun(before, state) ? Math.max(before.percent, job.percent) : job.percent;
  const isSilent = !job.isTerminal && all.some((part) => part.isSilent);
  return { job: { ...job, percent, sentences, seq, updatedAt, isSilent }, parts };
}

/** The entry after an event; undefined if the event is older than what is known. */
export function apply(entry: Entry | undefined, event: JobEvent, now: number): Entry | undefined {
  const id = event.sentenceId ?? "";
  const before = own(entry?.parts, id);
  return before && !isNewer(before, event) ? undefined : withPart(entry, id, advance(before, event, now));
}

/** The parts of a job that still run, with their ids; none once the job itself has ended. */
export const runningParts = ({ job, parts }: Entry): [string, JobState][] =>
  job.isTerminal ? [] : Object.entries(parts).filter(([, part]) => !part.isTerminal);

/**
 * The entry with those parts marked as silent whose next event is overdue. Events before `since` may not have reached
 * this client, so a promise counts from there at the earliest. The same entry if nothing changed.
 */
export function markSilent(entry: Entry, since: number, now: number): Entry {
  const overdue = runningParts(entry).filter(
    ([, { isSilent, updatedAt, nextWithin }]) => !isSilent && Math.max(updatedAt, since) + nextWithin! * 1000 <= now,
  ); // without nextWithin the sum is NaN, and the comparison false
  if (!overdue.length) return entry;
  const silent = overdue.map(([id, part]) => [id, { ...part, isSilent: true }]);
  const parts = { ...entry.parts, ...Object.fromEntries(silent) };
  const { "": _, ...sentences } = parts;
  return { job: { ...entry.job, sentences, isSilent: true }, parts };
}
