/** Checks the messages of a gateway. */

import type { ServerMessage } from "./messages.js";
import { own } from "./state.js";

/** The fields that the client uses, each with a value of its type. */
const EXAMPLE = {
  type: "",
  projectId: "",
  seq: 0,
  recovered: true,
  jobId: "",
  jobType: "",
  sentenceId: "",
  attempt: 0,
  progress: 0,
  message: "",
  nextWithin: 0,
  data: {},
  result: { file: "", duration: 0 },
  error: "",
  reason: "",
  code: "",
  reconnectIn: [0, 0],
  expiresIn: 0,
};

/** The field without which a message of this type is useless. */
const REQUIRED: Record<string, string> = {
  progress: "progress",
  job_complete: "result",
  job_failed: "error",
  subscribed: "seq",
};

const MOST = 2 ** 53; // JSON has greater ones, such as 1e999: infinity in all sums

/** Is each field of `example` of the same type in `value`, if it is there at all? */
// biome-ignore lint/suspicious/noExplicitAny: this is what tells the type
const isLike = (value: any, example: object): boolean =>
  value == null ||
  (typeof value === typeof example &&
    !(typeof value === "number" && Math.abs(value) > MOST) &&
    Object.entries(example).every(([name, its]) => isLike(value[name], its)));

/**
 * Parse one message; throws if it is not JSON, or if a field that the client uses is missing or has the wrong type. An
 * unknown `type` passes: a newer gateway may send it.
 */
export function readMessage(text: unknown): ServerMessage {
  const message = JSON.parse(text as string);
  const isValid = isLike(message, EXAMPLE) && message[own(REQUIRED, message.type) ?? "type"] != null;
  if (!isValid) throw message;
  return message;
}
