/** Reads what a gateway sends. */

import { EVENTS, own } from "./jobs.js";
import type { ServerMessage } from "./messages.js";

const NUMBERS = ["seq", "progress", "attempt", "nextWithin"];
const TEXTS = ["type", "jobId", "sentenceId", "message", "error", "code"];

/** One message; throws for rubbish. Its type may be one that is not known here, from a newer gateway. */
export function readMessage(text: unknown): ServerMessage {
  const message = JSON.parse(text as string);
  const isGood =
    TEXTS.every((name) => typeof (message[name] ?? "") === "string") &&
    NUMBERS.every((name) => Number.isFinite(message[name] ?? 0)) &&
    message[own(EVENTS, message.type)?.[1] ?? "type"] != null;
  if (!isGood) throw message;
  return message;
}
