/** Checks the messages of a gateway. */

import type { ServerMessage } from "./messages.js";
import { own } from "./state.js";

const NUMBERS = ["seq", "progress", "attempt", "nextWithin"];
const TEXTS = ["type", "jobId", "jobType", "sentenceId", "message", "error", "reason", "code"];
const OBJECTS = ["result", "data"];
/** The field without which a message of this type is useless. */
const REQUIRED: Record<string, string> = {
  progress: "progress",
  job_complete: "result",
  job_failed: "error",
  subscribed: "seq",
};

const isText = (value: unknown): boolean => typeof (value ?? "") === "string";
const isNumber = (value: unknown): boolean => Number.isFinite(value ?? 0);
const isObject = (value: unknown): boolean => typeof (value ?? {}) === "object";

/**
 * Parse one message; throws if it is not JSON, or if a field that the client uses is missing or has the wrong type. An
 * unknown `type` passes: a newer gateway may send it.
 */
export function readMessage(text: unknown): ServerMessage {
  const message = JSON.parse(text as string);
  const { type, result } = message;
  const isValid =
    TEXTS.every((name) => isText(message[name])) &&
    NUMBERS.every((name) => isNumber(message[name])) &&
    OBJECTS.every((name) => isObject(message[name])) &&
    isText(result?.file) &&
    isNumber(result?.duration) &&
    message[own(REQUIRED, type) ?? "type"] != null;
  if (!isValid) throw message;
  return message;
}
