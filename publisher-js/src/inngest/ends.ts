/** The ends that no middleware sees: Inngest tells of them by an event, which triggers a function of its own. */

import { CANCELLED, describe, TIMED_OUT, WORKER_ENDED } from "../failure.js";
import type { Publisher, Reason } from "../types.js";
import { identityOf, type NamingOptions, type TriggerEvent } from "./naming.js";

export const END_EVENTS = ["inngest/function.failed", "inngest/function.cancelled"] as const;
export const REPORTER_ID = "progress-end-reporter";
export const REPORTER_RETRIES = 10;

const TIMEOUT = /time.?out|timed out|deadline exceeded/i;

interface Told {
  readonly error: string;
  readonly reason: Reason | undefined;
}

/** End the job of the run that `event` tells of, unless it has ended. Rejects if Redis is away: Inngest tries again. */
export async function reportEnd(publisher: Publisher, options: NamingOptions, event: TriggerEvent): Promise<void> {
  let identity: ReturnType<typeof identityOf>;
  try {
    identity = identityOf(options, event.data.event as TriggerEvent, String(event.data.run_id));
  } catch {
    return; // the run of a function without a job
  }
  if (identity === null) return;
  const { error, reason } = toldBy(event);
  try {
    await publisher.endJob(identity.projectId, identity.jobId, identity.jobType, error, { reason });
  } catch (failure) {
    if (failure instanceof Error && failure.name === "EventError") return; // ids that no middleware took either
    throw failure;
  }
}

/** What viewers read of an end that Inngest tells, and its reason. */
function toldBy(event: TriggerEvent): Told {
  if (event.name.endsWith("cancelled")) return { error: CANCELLED, reason: "cancelled" };
  const told: unknown = event.data?.error;
  const { name, message } = typeof told === "object" && told !== null ? (told as Record<string, unknown>) : {};
  const [kind, text] = [String(name ?? ""), String(message ?? "")];
  if (kind !== "" && kind !== "Error") {
    // The function's own, which the middleware could not send.
    const isTimeout = kind === "TimeoutError";
    return { error: describe(`${isTimeout ? TIMED_OUT : kind}: ${text}`), reason: isTimeout ? "timed_out" : undefined };
  }
  if (TIMEOUT.test(text)) return { error: TIMED_OUT, reason: "timed_out" };
  return { error: WORKER_ENDED, reason: "lost" }; // what Inngest says then is about its own requests
}
