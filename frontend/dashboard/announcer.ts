/** What a screen reader says by itself: ends of jobs and losses of the connection, a few words now and then. */

import type { Job } from "../src/core.js";
import { setText } from "./dom.js";
import { type Look, plural } from "./words.js";

const SETTLE_MS = 2_000; // what comes together is said together, and a loss that is over by then is not said
const PAUSE_MS = 10_000; // from the last words
const MOST_NAMED = 2;

const STANDINGS: Record<Exclude<Look, "connecting">, string> = {
  connected: "Connected",
  stale: "What you see may be old",
  disconnected: "Disconnected",
};
type Standing = keyof typeof STANDINGS;

/** "image image_1 complete", or, where that would be a list, "3 jobs complete, 1 failed". */
export function ends(jobs: readonly Pick<Job, "jobId" | "jobType" | "status">[]): string {
  if (jobs.length <= MOST_NAMED) {
    return jobs.map(({ jobType, jobId, status }) => `${jobType} ${jobId} ${status}`).join(", ");
  }
  const failed = jobs.filter(({ status }) => status === "failed").length;
  const complete = jobs.length - failed;
  if (!complete) return `${plural(failed, "job")} failed`;
  return `${plural(complete, "job")} complete${failed ? `, ${failed} failed` : ""}`;
}

/** Speaks through one polite live region. */
export class Announcer {
  #region: Element;
  #ended: Job[] = [];
  #standings = new Map<string, { now: Standing; said: Standing }>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #spokeAt = -Infinity;

  constructor(region: Element) {
    this.#region = region;
  }

  /** A job ended, and that is news. */
  end(job: Job): void {
    this.#ended.push(job);
    this.#plan();
  }

  /** How the connection of a project stands. That all is well is said only after it was not. */
  stand(project: string, now: Standing): void {
    const said = this.#standings.get(project)?.said ?? "connected";
    this.#standings.set(project, { now, said });
    if (said !== now) this.#plan();
  }

  /** The project is not on the page any more. */
  forget(project: string): void {
    this.#standings.delete(project);
  }

  #plan(): void {
    const wait = Math.max(SETTLE_MS, this.#spokeAt + PAUSE_MS - Date.now());
    this.#timer ??= setTimeout(() => this.#speak(), wait);
  }

  #speak(): void {
    this.#timer = undefined;
    const words = new Set<string>(); // a loss concerns all projects alike, and is said once
    for (const standing of this.#standings.values()) {
      if (standing.said !== standing.now) words.add(STANDINGS[standing.now]);
      standing.said = standing.now;
    }
    if (this.#ended.length) words.add(ends(this.#ended.splice(0)));
    if (!words.size) return;
    this.#spokeAt = Date.now();
    setText(this.#region, `${[...words].join(". ")}.`);
  }
}
