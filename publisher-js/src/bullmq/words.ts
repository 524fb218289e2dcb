/** What a job of BullMQ says by `job.updateProgress(...)`, as a progress. */

import type { Data } from "../types.js";

/** A progress; what is missing stays as it was. */
export interface Words {
  percent?: number | undefined;
  message?: string | undefined;
  data?: Data | undefined;
}

const PERCENTS = ["percent", "progress", "percentage"] as const;

/**
 * A number is the percents, a text the message. Of an object `percent` (or `progress`, `percentage`), `message` and
 * `data` count; one without any of them is the author's own data. Null for what says nothing: a boolean.
 */
export function wordsOf(said: unknown): Words | null {
  if (typeof said === "number") return { percent: said };
  if (typeof said === "string") return { message: said };
  if (typeof said !== "object" || said === null) return null;
  const fields = said as Record<string, unknown>;
  const name = PERCENTS.find((field) => typeof fields[field] === "number");
  if (name === undefined && typeof fields.message !== "string") return { data: fields };
  return {
    percent: name === undefined ? undefined : (fields[name] as number),
    message: typeof fields.message === "string" ? fields.message : undefined,
    data: typeof fields.data === "object" && fields.data !== null ? (fields.data as Data) : undefined,
  };
}
