/** Reads what a gateway sends. Whatever it is, it throws nothing. */

import { own } from "./jobs.js";
import type { ServerMessage } from "./messages.js";

/** Without these fields a message of that type cannot be used. */
const NEEDED = {
  subscribed: "seq",
  progress: "progress",
  job_complete: "result",
  job_failed: "error",
  going_away: "reconnectIn",
};

const NUMBERS = ["seq", "progress", "attempt", "nextWithin"];

/** One message; undefined for rubbish. Its type may be one that is not known here, from a newer gateway. */
export function readMessage(text: unknown): ServerMessage | undefined {
  try {
    const message = JSON.parse(text as string);
    const { type } = message;
    const hasAll = typeof type === "string" && message[own<string>(NEEDED, type) ?? "type"] != null;
    return hasAll && NUMBERS.every((name) => typeof (message[name] ?? 0) === "number") ? message : undefined;
  } catch {
    return undefined;
  }
}
