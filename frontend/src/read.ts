/** Checks the messages of a gateway. */

import { own } from "./jobs.js";
import type { ServerMessage } from "./messages.js";

const NUMBERS = ["seq", "progress", "attempt", "nextWithin"];
const TEXTS = ["type", "jobId", "sentenceId", "message", "error", "code"];
/** The field without which a message of this type is useless. */
const REQUIRED: Record<string, string> = {
  progress: "progress",
  job_complete: "result",
  job_failed: "error",
  subscribed: "seq",
};

/**
 * Parse one message; throws if it is not JSON, or if a field that the client uses is missing or has the wrong type. An
 * unknown `type` passes: a newer gateway may send it.
 */
export function readMessage(text: unknown): ServerMessage {
  const message = JSON.parse(text as string);
  const isValid =
    TEXTS.every((name) => typeof (message[name] ?? "") === "string") &&
    NUMBERS.every((name) => Number.isFinite(message[name] ?? 0)) &&
    message[own(REQUIRED, message.type) ?? "type"] != null;
  if (!isValid) throw message;
  return message;
}
