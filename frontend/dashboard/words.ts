/** The texts of the page. Pure. */

import type { GatewayError, Job, JobState, Snapshot } from "../src/core.js";

/** The state of a project's connection on the page. `stale`: connected, but the data may be out of date. */
export type ConnectionState = Snapshot["status"] | "stale";

const SETTLED_MS = 1_000; // a loss that ends sooner shows no notice: each notice moves everything below it

/** Why there is no connection, for codes that came without a text. */
const REASONS: Record<number | string, string> = {
  1000: "The gateway closed the connection.",
  1001: "The gateway is shutting down.",
  1006: "The gateway cannot be reached.",
  1011: "The gateway closed the connection after an internal error.",
  1012: "The gateway is restarting.",
  4503: "The gateway is overloaded.",
  4504: "This page did not answer the gateway in time.",
  4508: "This page was too slow to receive the events.",
  bad_project_id: "This is not a project id. Use 1 to 128 of A-Z a-z 0-9 _ - . : and begin with a letter or digit.",
  forbidden: "Forbidden: your token does not cover this project.",
  offline: "This computer has no network.",
  no_answer: "The gateway does not answer.",
  bad_message: "The server that answers is not a Progress Gateway: check the address and the proxy.",
};

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** "13:04:05"; with the day unless it is today. */
export function time(ms: number, now: number): string {
  const isToday = new Date(ms).toDateString() === new Date(now).toDateString();
  return isToday ? clock.format(ms) : `${day.format(ms)}, ${clock.format(ms)}`;
}

/** Seconds in words: "3.5 s", "1:05", "2:00:07". */
export function duration(seconds: number): string {
  if (seconds < 59.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

/** How a job failed, in words, by its reason. A cancelled job is no failure: somebody wanted it so. */
const ENDS = { error: "failed", cancelled: "cancelled", timed_out: "timed out", lost: "worker lost" } as const;

/** "complete", "cancelled", "timed out" and so on: how a job or a sentence ended. */
export const endWord = ({ status, reason }: Pick<JobState, "status" | "reason">): string =>
  status === "failed" ? ENDS[reason ?? "error"] : status;

/** What a job or a sentence looks like: its status, but a cancelled one does not look failed. */
export const look = ({ status, reason }: Pick<JobState, "status" | "reason">): string =>
  status === "failed" && reason === "cancelled" ? "cancelled" : status;

/** Rounded down: only a complete job shows 100 %. */
export const percent = (state: JobState): string =>
  state.status === "failed" ? endWord(state) : `${Math.floor(state.percent)}\u00a0%`;

const number = new Intl.NumberFormat("en");

/** "5,000" */
export const count = (value: number): string => number.format(value);

export const plural = (value: number, one: string): string => `${count(value)} ${one}${value === 1 ? "" : "s"}`;

/** "retry 2"; empty for the first attempt, which has the number 0. */
export const retry = ({ attempt }: JobState): string => (attempt && attempt > 0 ? `retry ${attempt}` : "");

/** What a job or a sentence does now, or how it ended. */
export function outcome({ status, message, result, error, reason }: JobState): string {
  if (status === "running") return message ?? "";
  if (status === "failed") return error || (reason && reason !== "error" ? "" : "No reason was given");
  const seconds = result?.duration;
  return [result?.file, seconds == null ? undefined : duration(seconds)].filter((word) => word != null).join(" · ");
}

/** The text of a whole job. It does not repeat what stands beside the bar of a sentence. */
export function story(job: Job, sentences: Iterable<JobState>): string {
  let all = 0;
  let failed = 0;
  let isTheirs = false;
  for (const { status, message, error } of sentences) {
    all++;
    if (status === "failed") failed++;
    isTheirs ||= job.status === "running" ? message === job.message : status === "failed" && error === job.error;
  }
  if (job.status === "running") return isTheirs ? "" : outcome(job);
  return job.status === "failed" && isTheirs ? `${failed} of ${all} failed: ${outcome(job)}` : outcome(job);
}

/** "silent for 12 s"; empty for a job that is not silent. `since` is when its next event was due. */
export const silence = (job: Job, since: number, now: number): string =>
  job.isSilent ? `silent for ${duration(Math.max(0, Math.floor((now - since) / 1000)))}` : "";

export function connectionState({ status, isStale }: Snapshot): ConnectionState {
  return status === "connected" && isStale ? "stale" : status;
}

/** The state of a project's connection, in words. */
export function statusText(snapshot: Snapshot, now: number): string {
  const { retryAt } = snapshot;
  switch (connectionState(snapshot)) {
    case "connected":
      return "Connected";
    case "stale":
      return "Connected, but stale";
    case "connecting":
      return "Connecting";
    case "disconnected":
      if (retryAt === null) return "Disconnected";
      return `Disconnected, retrying in ${Math.max(1, Math.ceil((retryAt - now) / 1000))} s`;
  }
}

/** The gateway asks for a token, or refused the one that it was shown. */
export const isAboutToken = ({ code }: GatewayError): boolean => code === 4401 || code === "no_token";

/** Why the gateway refused something, in words. */
export function reason({ code, message }: GatewayError): string {
  if (isAboutToken({ code, message })) return `This gateway asks for a token (${message || "none was accepted"}).`;
  const isFromGateway = typeof code === "number" && message !== "";
  const known = Object.hasOwn(REASONS, code) ? REASONS[code] : undefined;
  const words = (isFromGateway ? undefined : known) ?? (message || `The connection ended with code ${code}`);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

/** Why the page may be out of date; empty while all is well. `isGapKnown`: the user dismissed the notice of a gap. */
export function notice(snapshot: Snapshot, now: number, isGapKnown = false): string {
  const { status, error, isStale, staleSince, recovered } = snapshot;
  const texts: string[] = [];
  const isOld = isStale && staleSince !== null && now - staleSince >= SETTLED_MS;
  const isDoubtful = isStale && status === "connected"; // the gateway lost Redis, or a job had no event since a gap
  if (error && (status === "disconnected" || (isOld && !isDoubtful))) texts.push(reason(error));
  if (!recovered && !isGapKnown) {
    texts.push("Some missed events are no longer available: a job shown as running may have ended.");
  }
  if (isDoubtful && recovered) texts.push("Events may be missing.");
  if (isOld) texts.push(`What you see may be out of date since ${time(staleSince, now)}.`);
  else if (isDoubtful) texts.push("What you see may be out of date.");
  return texts.join(" ");
}
