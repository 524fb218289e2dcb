/** The order of a project's jobs on the page: running jobs keep their place, ended ones stand below. Pure. */

import { type Job, type Snapshot, valuesOf } from "../src/core.js";

/** The ids of all jobs, in two lists. */
export interface Shelves {
  /** In the order in which they appeared; a running job never moves. */
  readonly running: readonly string[];
  /** The job that ended last comes first. */
  readonly ended: readonly string[];
}

export const EMPTY: Shelves = { running: [], ended: [] };

/** The number of ended jobs that are shown before "Show all". */
export const FOLD = 24;

/** Order by the last event. One without a seq came live, so it is newer than what was replayed. */
function bySeq(a: Job, b: Job): number {
  return a.seq === b.seq ? 0 : (a.seq ?? Infinity) - (b.seq ?? Infinity);
}

/** Are both lists equal? */
function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, index) => id === b[index]);
}

/**
 * The lists for `jobs`, after `before`; `before` itself if nothing moved. A job in `held` has just ended, and stays a
 * moment among the running ones.
 *
 * The order of `jobs` itself cannot be used: JavaScript puts keys like "7" first.
 */
export function arrange(before: Shelves, jobs: Snapshot["jobs"], held: ReadonlySet<string> = new Set()): Shelves {
  const isOnTop = (job: Job | undefined): boolean => !!job && (!job.isTerminal || held.has(job.jobId));
  const stayed = before.running.filter((id) => Object.hasOwn(jobs, id) && isOnTop(jobs[id]));
  const known = new Set(stayed);
  const all = valuesOf(jobs);
  const came = all.filter((job) => isOnTop(job) && !known.has(job.jobId)).sort(bySeq);
  const running = [...stayed, ...came.map((job) => job.jobId)];
  const ended = all
    .filter((job) => !isOnTop(job))
    .sort((a, b) => bySeq(b, a))
    .map((job) => job.jobId);
  const isRunningSame = isSame(before.running, running);
  const isEndedSame = isSame(before.ended, ended);
  if (isRunningSame && isEndedSame) return before;
  return { running: isRunningSame ? before.running : running, ended: isEndedSame ? before.ended : ended };
}

/** The ended jobs that are shown. */
export function shown(ended: readonly string[], isUnfolded: boolean): readonly string[] {
  return isUnfolded ? ended : ended.slice(0, FOLD);
}

/** The jobs that changed: the core keeps the object of an unchanged job. */
export function changed(before: Snapshot["jobs"], jobs: Snapshot["jobs"]): readonly Job[] {
  return before === jobs ? [] : valuesOf(jobs).filter((job) => before[job.jobId] !== job);
}
