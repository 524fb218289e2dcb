/** The sentence that viewers read when a job failed: no stack, no JSON, no secrets. */

import { MAX_TEXT } from "./fields.js";
import { redacted } from "./redaction.js";
import type { Reason, WillRetry } from "./types.js";

export const CANCELLED = "Cancelled";
export const TIMED_OUT = "Timed out";
export const WORKER_ENDED = "Stopped: its worker ended";
export const INTERRUPTED = "Interrupted";
export const LEFT_EARLY = "Stopped before its end";
export const WILL_RETRY = "it will be tried again";

const MOST_READ = 8_000; // characters of a text that are used; far more than an event holds
const MOST_LEVELS = 5;

// Where JSON may begin in a text. `[` alone also stands in ordinary sentences: "scenes [1, 2]".
const JSON_BEGIN = /\{|\[\s{0,9}\{/;
const TELLING = ["message", "error", "detail", "msg", "description", "error_description", "reason", "title"];

// What `AbortController` and `AbortSignal.timeout` say: true, and of no use to viewers.
const USUAL_WORDS = /^(The|This) operation (was|has been) aborted( due to timeout)?\.?$/i;

/**
 * What was thrown as one sentence, or a text in one line; may be empty. JSON is put into words, secrets are redacted.
 *
 * The sentence is `TypeError: no voice`; without the class for a plain `Error`, and where the message repeats it.
 */
export function describe(error: unknown): string {
  const one = alone(error);
  if (!(one instanceof Error) && !isErrorLike(one)) {
    return inOneLine(withoutJson(textOf(one).slice(0, MOST_READ)));
  }
  const name = textOf(one.name) || "Error";
  if (isCancellation(one)) return CANCELLED;
  const text = inOneLine(withoutJson(textOf(one.message).slice(0, MOST_READ)));
  if (isTimeout(one)) return !text || USUAL_WORDS.test(text) ? TIMED_OUT : `${TIMED_OUT}: ${text}`;
  if (!text) return name;
  return name === "Error" || text.startsWith(`${name}:`) ? text : `${name}: ${text}`;
}

/** What kind of end it is, where that is sure: cancelled, or timed out. */
export function reasonFor(error: unknown): Reason | undefined {
  const one = alone(error);
  if (!isErrorLike(one)) return undefined;
  return isCancellation(one) ? "cancelled" : isTimeout(one) ? "timed_out" : undefined;
}

/** The text for viewers after a failed try that another one follows; `text` may be empty. */
export function retryText(text: string, what: string = WILL_RETRY): string {
  if (!text) return what.charAt(0).toUpperCase() + what.slice(1);
  const suffix = `; ${what}`;
  return text.slice(0, MAX_TEXT - suffix.length) + suffix;
}

/** Whether another try follows. A function that throws is no reason to hide the job's own error. */
export function isRetried(willRetry: WillRetry, error: unknown, complain: (error: unknown) => void): boolean {
  if (typeof willRetry === "boolean") return willRetry;
  try {
    if (Array.isArray(willRetry)) return willRetry.some((kind) => error instanceof kind);
    if (isErrorClass(willRetry)) return error instanceof willRetry;
    return Boolean((willRetry as (error: unknown) => boolean)(error));
  } catch (failure) {
    complain(failure);
    return false;
  }
}

const isErrorClass = (value: unknown): value is new () => unknown =>
  typeof value === "function" && (value === Error || value.prototype instanceof Error);

interface ErrorLike {
  name: unknown;
  message: unknown;
}

// By its form: an error may come from another realm, or be a DOMException.
const isErrorLike = (value: unknown): value is ErrorLike =>
  value instanceof Error || (typeof value === "object" && value !== null && "name" in value && "message" in value);

const isCancellation = ({ name }: ErrorLike): boolean => name === "AbortError" || name === "CancelledError";
const isTimeout = ({ name }: ErrorLike): boolean => name === "TimeoutError";

/** The error of a group of one, which says more than the group. */
function alone(error: unknown): unknown {
  let one = error;
  while (one instanceof AggregateError && one.errors.length === 1) one = one.errors[0];
  return one;
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  try {
    return typeof value === "object" ? (JSON.stringify(value) ?? "") : String(value);
  } catch {
    return ""; // a cycle, or a `toJSON` that throws
  }
}

const inOneLine = (text: string): string => redacted(text.split(/\s+/).filter(Boolean).join(" "));

/** A text whose JSON, if it ends with some, is replaced by the sentence in it. */
function withoutJson(text: string): string {
  const start = text.search(JSON_BEGIN);
  if (start < 0) return text;
  let value: unknown;
  try {
    value = JSON.parse(text.slice(start));
  } catch {
    return text;
  }
  const before = text.slice(0, start).replace(/[\s:-]+$/, "");
  const told = sentenceIn(value, MOST_LEVELS);
  return before && told ? `${before}: ${told}` : before || told;
}

/** The first text for people in decoded JSON; empty if there is none. */
function sentenceIn(value: unknown, levels: number): string {
  if (typeof value === "string") return value.trim();
  if (levels === 0 || typeof value !== "object" || value === null) return "";
  const known = value as Record<string, unknown>;
  const items = Array.isArray(value)
    ? value.slice(0, 3)
    : TELLING.filter((name) => name in known).map((name) => known[name]);
  for (const item of items) {
    const found = sentenceIn(item, levels - 1);
    if (found) return found;
  }
  return "";
}
