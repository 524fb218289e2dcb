/** The rules by which events become the state of a job: publisher/job_rules.py in TypeScript; tests hold them equal. */

import type { EventMessage } from "./messages.js";

export type JobStatus = "running" | "complete" | "failed";

/** The status that an event gives its job or sentence. */
export const STATUS: Record<EventMessage["type"], JobStatus> = {
  progress: "running",
  job_complete: "complete",
  job_failed: "failed",
};

export const isEnd = (event: Pick<EventMessage, "type">): boolean => event.type !== "progress";

const progressOf = (event: EventMessage): number => (event.type === "progress" ? event.progress : 0);

/**
 * What an event does to its job.
 *
 * - `news`: it becomes the last event of its part.
 * - `begins`: the same, and everything else of the job is dropped, because it belongs to an earlier attempt.
 * - `refused`: nothing. A later attempt has begun, or in this attempt the part has ended, or its progress was higher.
 */
export type Verdict = "news" | "begins" | "refused";

/**
 * Judge an event. `attempt` is the job's number, the highest that any of its events carried; `known` is the last event
 * of the same part.
 */
export function judge(attempt: number | undefined, known: EventMessage | undefined, event: EventMessage): Verdict {
  if (event.attempt === undefined) {
    const isOwnBegin = !isEnd(event) && progressOf(event) === 0 && event.sentenceId === undefined;
    const hasRun = known && (isEnd(known) || progressOf(known) > 0);
    return isOwnBegin && hasRun ? "begins" : "news";
  }
  if (attempt === undefined || event.attempt > attempt) return "begins";
  if (event.attempt < attempt) return "refused";
  if (known?.attempt !== event.attempt) return "news";
  const isLower = !isEnd(event) && progressOf(event) < progressOf(known);
  return isEnd(known) || isLower ? "refused" : "news";
}

/** What a part shows, 0 to 100. Its last event alone decides, so a page that opens now shows the same as one that was
 * there. */
export const percentOf = (event: EventMessage): number => (event.type === "job_complete" ? 100 : progressOf(event));
