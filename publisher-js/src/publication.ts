/** One event as the command that Redis runs for it. No I/O. */

import { EventError } from "./errors.js";
import { checkEvent, type Event, eventToJson, NEXT, withAttempt } from "./events.js";
import { checkProjectId, jobField, jobsKey, redisChannelOf } from "./names.js";

// What is remembered of a project. Whole jobs are forgotten, first those that ended longest ago.
export const MAX_JOBS = 1_000;
const MAX_PARTS = 10_000; // the jobs themselves, and their sentences
const MAX_BYTES = 8 << 20;
export const BOUNDS = `${MAX_JOBS}:${MAX_PARTS}:${MAX_BYTES}`;
export const TIME_TO_LIVE_SECONDS = 3_600;

export const BATCH = 1_000; // events per round trip; more would only fill the buffers of both sides

/** What became of an event. */
export interface Sent {
  /** null: it was refused, or not sent. */
  readonly seq: number | null;
  /** The number that Redis gave to the attempt that begins with it, where that was asked for. */
  readonly attempt?: number | undefined;
  /** The attempt that replaced its own, which is why it was refused; -1 where only that is known. */
  readonly replacedBy?: number | undefined;
  /** Why Redis could not remember it; it was delivered all the same. */
  readonly unremembered?: string | undefined;
}

export const NOT_SENT: Sent = { seq: null };

/** A checked event, as it is sent. */
export interface Publication {
  readonly projectId: string;
  readonly event: Event;
  readonly key: string;
  readonly redisChannel: string;
  readonly payload: string;
  readonly field: string;
  /** The lowest number of the attempt that begins with it; undefined if none begins. */
  readonly leastAttempt: number | undefined;
}

/** Check both; throws `EventError`. With `leastAttempt` the event begins the next attempt. */
export function publicationOf(
  projectId: string,
  event: unknown,
  namespace: string,
  leastAttempt?: number | undefined,
): Publication {
  const given = checkEvent(event);
  const begins = leastAttempt !== undefined || given.attempt === NEXT;
  const checked = begins ? withAttempt(given, NEXT) : given;
  const redisChannel = redisChannelOf(checkProjectId(projectId), namespace);
  return {
    projectId,
    event: checked,
    key: jobsKey(redisChannel),
    redisChannel,
    payload: eventToJson(checked),
    field: jobField(checked.jobId, checked.sentenceId),
    leastAttempt: begins ? (leastAttempt ?? 0) : undefined,
  };
}

/** Check all; throws `EventError` with the index of the first that does not fit. */
export function publicationsOf(
  events: Iterable<readonly [projectId: string, event: unknown]>,
  namespace: string,
): Publication[] {
  return Array.from(events, (pair, index) => {
    try {
      if (!Array.isArray(pair)) throw new EventError({ "": "must be a pair of a project id and an event" });
      return publicationOf(pair[0], pair[1], namespace);
    } catch (error) {
      throw error instanceof EventError ? new EventError(error.errors, index) : error;
    }
  });
}

/** The event in a few words, for a log line; without its `message` or `error`. */
export const summaryOf = ({ event, projectId }: Publication): string =>
  `${event.type} of job '${event.jobId}' in project '${projectId}'`;

/** The payload of a plain PUBLISH. Redis numbers nothing then, so an attempt that begins has no number. */
export const payloadWithoutReplay = ({ event, payload }: Publication): string =>
  event.attempt === NEXT ? eventToJson(withAttempt(event, undefined)) : payload;

/** The arguments of EVALSHA and EVAL after the script or its hash. */
export function scriptArguments(publication: Publication, verb: string): string[] {
  const { event, leastAttempt } = publication;
  const attempt = leastAttempt === undefined ? `${event.attempt ?? ""}` : `+${leastAttempt}`;
  const progress = event.type === "progress" ? `${event.progress || 0}` : ""; // -0 is 0
  return [
    "1",
    publication.key,
    publication.redisChannel,
    publication.payload,
    publication.field,
    attempt,
    progress,
    BOUNDS,
    `${TIME_TO_LIVE_SECONDS}`,
    verb,
  ];
}

/** Read what publish.lua returned; throws for anything else. */
export function sentOf(answer: unknown): Sent {
  if (answer === null) return NOT_SENT;
  if (!Array.isArray(answer)) return { seq: integer(answer) };
  const [seq, attempt, error] = [integer(answer[0]), integer(answer[1]), answer[2]];
  if (seq === 0) return { seq: null, replacedBy: attempt };
  return {
    seq,
    attempt: attempt >= 0 ? attempt : undefined,
    unremembered: error === undefined ? undefined : String(error),
  };
}

/** A client may be set to return numbers as strings. */
function integer(value: unknown): number {
  const number = typeof value === "number" ? value : Number(String(value) || Number.NaN);
  if (!Number.isSafeInteger(number)) throw new TypeError("neither a number nor a list");
  return number;
}
