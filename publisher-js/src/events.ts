/** Checks the events of a job. What passes is sent as it is; unknown fields are dropped. */

import { EventError } from "./errors.js";
import { CHECKS, RULES, sentence, Wrong } from "./fields.js";
import type { Data, Reason } from "./types.js";

export const MAX_EVENT_BYTES = 32_768; // of an event, as compact JSON
export const NEXT = "next"; // in place of an attempt: the number after the last one, which Redis gives

/** The fields that all events of a job share. */
export interface Identity {
  readonly jobId: string;
  readonly jobType: string;
  readonly sentenceId?: string | undefined;
}

interface Shared extends Identity {
  readonly attempt?: number | typeof NEXT | undefined;
  readonly data?: Data | undefined;
}

/** A checked event. Its fields stand in the order of the Python models, by which publish.lua reads at a glance. */
export interface Progress extends Shared {
  readonly type: "progress";
  readonly progress: number;
  readonly message?: string | undefined;
  readonly nextWithin?: number | undefined;
}

export interface JobComplete extends Shared {
  readonly type: "job_complete";
  readonly result: { readonly file?: string; readonly duration?: number };
}

export interface JobFailed extends Shared {
  readonly type: "job_failed";
  readonly error: string;
  readonly reason?: Reason | undefined;
}

export type Event = Progress | JobComplete | JobFailed;
export type End = JobComplete | JobFailed;

type Given = Readonly<Record<string, unknown>>;
type Field = keyof typeof CHECKS;

const SHARED = ["jobId", "jobType", "sentenceId", "attempt"] as const;
const FIELDS = {
  progress: [...SHARED, "progress", "message", "nextWithin", "data"],
  job_complete: [...SHARED, "result", "data"],
  job_failed: [...SHARED, "error", "reason", "data"],
} as const;
const REQUIRED = new Set<string>(["jobId", "jobType", "progress", "error"]);

/** Return an event as it is sent; throws `EventError`, which names each field that does not fit. */
export function checkEvent(event: unknown): Event {
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    throw new EventError({ "": sentence("a JSON object", event) });
  }
  const given = event as Given;
  const type = CHECKS.type(given["type"] ?? undefined);
  if (type instanceof Wrong) throw new EventError({ type: sentence(RULES.type, given["type"], type.detail) });
  const errors: Record<string, string> = {};
  const checked: Record<string, unknown> = { type };
  for (const field of FIELDS[type]) {
    if (field === "result") checked["result"] = checkResult(given["result"], errors);
    else if (field === "attempt" && given["attempt"] === NEXT) checked["attempt"] = nextOf(type, errors);
    else take(field, given[field], checked, errors);
  }
  if (Object.keys(errors).length > 0) throw new EventError(errors);
  return checked as unknown as Event;
}

function nextOf(type: Event["type"], errors: Record<string, string>): typeof NEXT {
  if (type !== "progress") errors["attempt"] = `must be ${RULES.attempt}: an attempt begins with a progress`;
  return NEXT;
}

function take(field: Field, value: unknown, into: Record<string, unknown>, errors: Record<string, string>): void {
  // null is absent, as None is in Python; a field that is required says what it must be.
  if (value === undefined || (value === null && !REQUIRED.has(field))) {
    if (REQUIRED.has(field)) errors[field] = sentence(RULES[field], undefined);
    return;
  }
  const found = CHECKS[field](value);
  if (found instanceof Wrong) errors[field] = sentence(RULES[field], value, found.detail);
  else into[field.replace("result.", "")] = found;
}

function checkResult(value: unknown, errors: Record<string, string>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  if (value === undefined) return result;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    errors["result"] = sentence(RULES.result, value);
    return result;
  }
  take("result.file", (value as Given)["file"], result, errors);
  take("result.duration", (value as Given)["duration"], result, errors);
  return result;
}

/** One compact JSON object; throws `EventError` for one that is too long. */
export function eventToJson(event: Event): string {
  const json = JSON.stringify(event);
  const size = json.length > MAX_EVENT_BYTES ? json.length : Buffer.byteLength(json);
  if (size > MAX_EVENT_BYTES) {
    throw new EventError({
      "": `must be at most ${MAX_EVENT_BYTES} bytes as compact JSON, got ${Buffer.byteLength(json)}`,
    });
  }
  return json;
}

/** The event with an attempt, at its place in the order of fields. */
export function withAttempt<E extends Event>(event: E, attempt: number | typeof NEXT | undefined): E {
  const { type, jobId, jobType, sentenceId, attempt: _, ...rest } = event;
  return { type, jobId, jobType, sentenceId, attempt, ...rest } as E;
}
