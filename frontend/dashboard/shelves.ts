/** Where the jobs of a project stand: those that run where they were, those that ended below. Pure. */

import type { Job, Snapshot } from "../src/core.js";

/** Ids of jobs, each on one of two shelves. */
export interface Shelves {
  /** In the order in which they came, whatever they do. */
  readonly running: readonly string[];
  /** The one that ended last is first. */
  readonly ended: readonly string[];
}

export const EMPTY: Shelves = { running: [], ended: [] };

/** How many that ended are shown until more are asked for. */
export const FOLD = 24;

/** The order in which their last events arrived. Those that were replayed came in one moment, in the order of `seq`. */
function byArrival(a: Job, b: Job): number {
  return a.updatedAt - b.updatedAt || (a.seq ?? 0) - (b.seq ?? 0);
}

/** Whether nobody moved: then there is nothing to do on the page. */
function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, index) => id === b[index]);
}

/**
 * The shelves for `jobs`, after `before`. A job that is `held` has ended and stays a moment where it ran, to be seen.
 *
 * The order of `jobs` itself says nothing: JavaScript puts ids like "7" first.
 */
export function arrange(before: Shelves, jobs: Snapshot["jobs"], held: ReadonlySet<string> = new Set()): Shelves {
  const isUp = (job: Job): boolean => !job.isTerminal || held.has(job.jobId);
  const stayed = before.running.filter((id) => Object.hasOwn(jobs, id) && isUp(jobs[id]!));
  const known = new Set(stayed);
  const all = Object.values(jobs);
  const came = all.filter((job) => isUp(job) && !known.has(job.jobId)).sort(byArrival);
  const running = [...stayed, ...came.map((job) => job.jobId)];
  const ended = all
    .filter((job) => !isUp(job))
    .sort((a, b) => byArrival(b, a))
    .map((job) => job.jobId);
  const isRunningSame = isSame(before.running, running);
  const isEndedSame = isSame(before.ended, ended);
  if (isRunningSame && isEndedSame) return before;
  return { running: isRunningSame ? before.running : running, ended: isEndedSame ? before.ended : ended };
}

/** Those of a shelf that are shown. */
export function shown(ended: readonly string[], isUnfolded: boolean): readonly string[] {
  return isUnfolded ? ended : ended.slice(0, FOLD);
}

/** The jobs that are not what they were; a job that nothing happened to keeps its identity. */
export function changed(before: Snapshot["jobs"], jobs: Snapshot["jobs"]): readonly Job[] {
  return before === jobs ? [] : Object.values(jobs).filter((job) => before[job.jobId] !== job);
}

export function countRunning(jobs: Snapshot["jobs"]): number {
  return Object.values(jobs).filter(({ isTerminal }) => !isTerminal).length;
}
