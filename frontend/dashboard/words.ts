/** What the page says, in words for people. Pure. */

import type { GatewayError, Job, JobState, Snapshot } from "../src/core.js";

/** How a project's connection looks: `stale` is one that stands while what it brings may be old. */
export type Look = Snapshot["status"] | "stale";

const SETTLED_MS = 1_000; // a notice moves what is below it: not for a loss that is over in a moment

/** Why there is no connection, where nobody gave a reason in words. */
const REASONS: Record<number | string, string> = {
  1000: "The gateway ended the connection.",
  1001: "The gateway went away.",
  1006: "The gateway cannot be reached.",
  1011: "The gateway ended the connection after an error of its own.",
  1012: "The gateway is being restarted.",
  4401: "This page may not connect.",
  4503: "The gateway is overloaded.",
  4504: "The gateway heard nothing from this page.",
  4508: "This page was too slow to read what the gateway sent.",
  bad_project_id: "This is not a project id: 1 to 128 of A-Z a-z 0-9 _ - . : and begins with a letter or digit.",
  offline: "This computer has no network.",
  no_answer: "The gateway does not answer.",
  bad_message: "What answers there does not speak like a gateway.",
};

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** 13:04:05; with its day, unless that is today. */
export function time(ms: number, now: number): string {
  const isToday = new Date(ms).toDateString() === new Date(now).toDateString();
  return isToday ? clock.format(ms) : `${day.format(ms)}, ${clock.format(ms)}`;
}

/** Seconds as people read them: 3.5 s, 1:05, 2:00:07. */
export function duration(seconds: number): string {
  if (seconds < 59.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

/** 100 is said of what is complete only: 99.9 is 99. */
export const percent = ({ percent, status }: JobState): string =>
  status === "failed" ? "failed" : `${Math.floor(percent)}\u00a0%`;

export const plural = (count: number, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`;

/** Attempts count from 0: the first is nothing to speak of. */
export const retry = ({ attempt }: JobState): string => (attempt && attempt > 0 ? `retry ${attempt}` : "");

/** How a job or a sentence of one goes, or how it ended. */
export function outcome({ status, message, result, error }: JobState): string {
  if (status === "running") return message ?? "";
  if (status === "failed") return error || "No reason was given";
  const seconds = result?.duration;
  return [result?.file, seconds == null ? undefined : duration(seconds)].filter((word) => word != null).join(" · ");
}

/** The text of a whole job: what its sentences say stands beside their bars. */
export function story(job: Job): string {
  const sentences = Object.values(job.sentences);
  if (job.status === "running") {
    return sentences.some(({ message }) => message === job.message) ? "" : outcome(job);
  }
  const failed = sentences.filter(({ status }) => status === "failed");
  const isTheirs = job.status === "failed" && failed.some(({ error }) => error === job.error);
  return isTheirs ? `${failed.length} of ${sentences.length} failed: ${outcome(job)}` : outcome(job);
}

/** Seconds since a sign of life was due that did not come; null where it is not known since when. */
export function overdue(job: Job, now: number): number | null {
  const sentences = Object.values(job.sentences).filter(({ isSilent }) => isSilent);
  const due = (sentences.length ? sentences : [job])
    .filter(({ nextWithin }) => nextWithin != null)
    .map(({ updatedAt, nextWithin }) => updatedAt + nextWithin! * 1000);
  return due.length ? Math.max(0, Math.floor((now - Math.min(...due)) / 1000)) : null;
}

/** "silent for 12 s"; nothing for a job that keeps its promise. */
export function silence(job: Job, now: number): string {
  if (!job.isSilent) return "";
  const seconds = overdue(job, now);
  return seconds === null ? "silent" : `silent for ${duration(seconds)}`;
}

export function look({ status, isStale }: Snapshot): Look {
  return status === "connected" && isStale ? "stale" : status;
}

/** Of one project's connection. */
export function standing(snapshot: Snapshot, now: number): string {
  const { retryAt } = snapshot;
  switch (look(snapshot)) {
    case "connected":
      return "Connected";
    case "stale":
      return "Connected, but stale";
    case "connecting":
      return "Connecting";
    case "disconnected":
      if (retryAt === null) return "Disconnected";
      return `Disconnected, again in ${Math.max(1, Math.ceil((retryAt - now) / 1000))} s`;
  }
}

function reason({ code, message }: GatewayError): string {
  const isGiven = typeof code === "number" && message !== ""; // by the gateway
  const known = Object.hasOwn(REASONS, code) ? REASONS[code] : undefined;
  const words = (isGiven ? undefined : known) ?? (message || `The connection ended: ${code}`);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

/** Why what is shown may not be what is; empty while all is well. A gap that is known is not told again. */
export function notice(snapshot: Snapshot, now: number, isGapKnown = false): string {
  const { status, error, isStale, staleSince, recovered } = snapshot;
  const said: string[] = [];
  const isOld = isStale && staleSince !== null && now - staleSince >= SETTLED_MS;
  const isDeaf = isStale && status === "connected"; // the gateway lost its feed, or a job was not heard of since a gap
  if (error && (status === "disconnected" || (isOld && !isDeaf))) said.push(reason(error));
  if (!recovered && !isGapKnown) {
    said.push("Some events were missed that the gateway no longer has: a job that seems to run may be over.");
  }
  if (isDeaf && recovered) said.push("News may be missing.");
  if (isOld) said.push(`What you see may be old, since ${time(staleSince, now)}.`);
  else if (isDeaf) said.push("What you see may be old.");
  return said.join(" ");
}
