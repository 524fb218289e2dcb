/** Plays the cases of tests/cases/ on the core. */

import { Jobs } from "../src/jobs.js";
import type { EventMessage } from "../src/messages.js";
import { type ById, type JobEvent, type JobState, publishedAt, valuesOf } from "../src/state.js";

/** An event of a case, or of a gateway. */
export type Given = Partial<EventMessage> & { atLeast?: number };

export type Step = { live: Given } | { replay: Given[]; isWhole: boolean };

/** How a job stands, in the words of a case. */
interface Standing {
  status: string;
  percent: number;
  attempt?: number;
  sentences: ById<{ status: string; percent: number }>;
}

/** With the fields that a case leaves out. */
export function full({ atLeast: _, ...given }: Given): JobEvent {
  const event = { type: "progress", jobId: "j", jobType: "audio", projectId: "p", ...given } as EventMessage;
  return { ...event, isReplay: false, publishedAt: publishedAt(event.seq) };
}

/** A job whose name is that of a field of every object is one, too. */
const mapped = <T, U>(record: ById<T>, map: (value: T) => U): ById<U> =>
  Object.fromEntries(Object.entries(record).map(([id, value]) => [id, map(value as T)]));

/** To the digits that all implementations agree on. */
const rounded = (percent: number): number => Math.round(percent * 1e4) / 1e4;

/** The jobs after the steps. */
export function play(steps: readonly Step[]): ById<Standing> {
  const jobs = new Jobs(1_000);
  for (const step of steps) {
    if ("live" in step) jobs.apply(full(step.live), 0);
    else jobs.merge(step.replay.map(full), 0, step.isWhole);
    // A page may draw after each step; what it was given must not change with the next one.
    for (const job of valuesOf(jobs.byId)) if (job.jobId.length % 2) void job.sentences;
  }
  return mapped(jobs.byId, (job) => {
    const shown = ({ status, percent }: JobState) => ({ status, percent: rounded(percent) });
    const attempt = job.attempt === undefined ? undefined : { attempt: job.attempt };
    return { ...shown(job), ...attempt, sentences: mapped(job.sentences, shown) };
  });
}
