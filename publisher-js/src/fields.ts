/** What each field of an event must be, in words and as checks. The rules are those of publisher/events.py. */

import type { Data } from "./types.js";

export const MAX_TEXT = 2_000; // characters of `message` and `error`; longer text is cut
export const MAX_FILE_BYTES = 8_192; // of `result.file`: signed URLs are long, and a cut one would be useless
export const MAX_DATA_BYTES = 8_192; // of `data`, as compact JSON
export const MAX_DATA_LEVELS = 16; // of objects and lists in `data`, itself included
export const MAX_SEQ = Number.MAX_SAFE_INTEGER;

// Letters, marks, numbers, punctuation, symbols and spaces of any script; no controls and no line separators.
const ID = /^[^\p{C}\p{Zl}\p{Zp}]{1,128}$/u;
const JOB_TYPE = /^[A-Za-z][A-Za-z0-9_\-.:]{0,63}$/;
const BREAKS = /[\t-\r\x85\u2028\u2029]+/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed, with those that change the direction
const CONTROL = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: what may need one of the changes below; most texts do not
const UNUSUAL = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/;
const LONE_SURROGATE = /\p{Surrogate}/gu;

export const RULES = {
  type: "'progress', 'job_complete' or 'job_failed'",
  jobId: "1 to 128 printable characters",
  jobType: "1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter",
  sentenceId: "1 to 128 printable characters",
  attempt: `a whole number from 0 to ${MAX_SEQ}, or 'next' in a progress`,
  data: `a JSON object of at most ${MAX_DATA_BYTES} bytes and ${MAX_DATA_LEVELS} levels`,
  progress: "a number from 0 to 100",
  message: "a string",
  nextWithin: "a number of seconds above 0, and at most 86400",
  result: "a JSON object",
  "result.file": `a string of at most ${MAX_FILE_BYTES} bytes in UTF-8`,
  "result.duration": `a number of seconds from 0 to ${MAX_SEQ}`,
  error: "a string",
  reason: "'error', 'cancelled', 'timed_out' or 'lost'",
} as const;

/** What is wrong with a value: a detail, or "" where its type says enough. */
export class Wrong {
  readonly detail: string;
  constructor(detail = "") {
    this.detail = detail;
  }
}

/** `must be a number from 0 to 100, got string (of another form)`: the rule and the type of what was given, no value. */
export function sentence(rule: string, value: unknown, detail = ""): string {
  if (value === undefined) return `is required and must be ${rule}`;
  const kind = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  return `must be ${rule}, got ${kind}${detail ? ` (${detail})` : ""}`;
}

type Check<T> = (value: unknown) => T | Wrong;

const number =
  (fits: (value: number) => boolean): Check<number> =>
  (value) => {
    if (typeof value !== "number") return new Wrong();
    return fits(value) ? value : new Wrong("out of range");
  };

const text =
  (pattern: RegExp, most: number): Check<string> =>
  (value) => {
    if (typeof value !== "string") return new Wrong();
    if (pattern.test(value)) return value;
    if (value === "") return new Wrong("empty");
    if (value.search(LONE_SURROGATE) >= 0) return new Wrong("not valid Unicode");
    const size = [...value].length;
    return new Wrong(size > most ? `${size} characters` : "of another form");
  };

const oneOf =
  <T extends string>(...names: readonly T[]): Check<T> =>
  (value) => {
    if (typeof value !== "string") return new Wrong();
    return names.includes(value as T) ? (value as T) : new Wrong("none of these");
  };

function whole(value: unknown): number | Wrong {
  if (typeof value !== "number") return new Wrong();
  if (Number.isFinite(value) && !Number.isInteger(value)) return new Wrong("not whole");
  return value >= 0 && value <= MAX_SEQ ? value : new Wrong("out of range");
}

/** One line of at most `MAX_TEXT` characters. */
function line(value: unknown): string | Wrong {
  if (typeof value !== "string") return new Wrong();
  const clean = UNUSUAL.test(value) ? withoutControl(value.replace(BREAKS, " ")) : value;
  return clean.length <= MAX_TEXT ? clean : cut(clean);
}

/** At most `MAX_TEXT` characters, of which a pair of surrogates is one. */
const cut = (value: string): string => [...value.slice(0, 2 * MAX_TEXT)].slice(0, MAX_TEXT).join("");

// A lone surrogate cannot stand in JSON that everybody reads; it becomes a question mark.
const withoutControl = (value: string): string => value.replace(CONTROL, "").replace(LONE_SURROGATE, "?");

function file(value: unknown): string | Wrong {
  if (typeof value !== "string") return new Wrong();
  const clean = UNUSUAL.test(value) ? withoutControl(value) : value;
  const size = Buffer.byteLength(clean);
  return size > MAX_FILE_BYTES ? new Wrong(`${size} bytes`) : clean;
}

/** A copy of an object of the author's own: it may be changed before it is sent. */
function data(value: unknown): Data | Wrong {
  if (!isPlain(value)) return new Wrong();
  const problem = problemOf(value, 1);
  if (problem) return new Wrong(problem);
  const json = JSON.stringify(value);
  const size = Buffer.byteLength(json);
  return size > MAX_DATA_BYTES ? new Wrong(`${size} bytes`) : JSON.parse(json);
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  // Of another realm (a sandbox of tests, say) the prototype is another object with the same place in the chain.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Why a value is not JSON, or is too deep; "" if it is. Properties that are undefined are left out, as JSON does. */
function problemOf(value: unknown, level: number): string {
  switch (typeof value) {
    case "string":
      return value.search(LONE_SURROGATE) >= 0 ? "not valid Unicode" : "";
    case "number":
      return Number.isFinite(value) ? "" : "holds a number that is not finite";
    case "boolean":
      return "";
    case "object":
      if (value === null) return "";
      if (!Array.isArray(value) && (!isPlain(value) || "toJSON" in value)) {
        return `holds a value of type ${value.constructor?.name ?? "object"}`;
      }
      if (level > MAX_DATA_LEVELS) return "too deep";
      return Array.isArray(value) ? problemIn(value, level) : problemOfObject(value, level);
    default:
      return `holds a value of type ${typeof value}`;
  }
}

function problemOfObject(value: Record<string, unknown>, level: number): string {
  if (Object.keys(value).some((key) => key.search(LONE_SURROGATE) >= 0)) return "not valid Unicode";
  return problemIn(
    Object.values(value).filter((item) => item !== undefined),
    level,
  );
}

function problemIn(items: readonly unknown[], level: number): string {
  for (const item of items) {
    const problem = problemOf(item, level + 1);
    if (problem) return problem;
  }
  return "";
}

/** The checks, by field. Each returns the value as it is sent, or what is wrong with it. */
export const CHECKS = {
  type: oneOf("progress", "job_complete", "job_failed"),
  jobId: text(ID, 128),
  jobType: text(JOB_TYPE, 64),
  sentenceId: text(ID, 128),
  attempt: whole,
  progress: number((value) => value >= 0 && value <= 100),
  message: line,
  nextWithin: number((value) => value > 0 && value <= 86_400),
  data,
  "result.file": file,
  "result.duration": number((value) => value >= 0 && value <= MAX_SEQ),
  error: line,
  reason: oneOf("error", "cancelled", "timed_out", "lost"),
} as const;
