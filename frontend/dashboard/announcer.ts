/** What a screen reader says without being asked: ends of jobs and losses of the connection, in few words. */

import type { Job } from "../src/core.js";
import { setText } from "./dom.js";
import { type ConnectionState, endWord, plural } from "./words.js";

const SETTLE_MS = 2_000; // news within this time is said together, and a loss that ends within it is not said
const PAUSE_MS = 10_000; // the shortest time between two announcements
const MOST_NAMED = 2; // more jobs than this are only counted

/** What is said of each state of a connection. A connection that is being opened is not announced. */
const TEXTS: Record<Exclude<ConnectionState, "connecting">, string> = {
  connected: "Connected",
  stale: "What you see may be out of date",
  disconnected: "Disconnected",
};
type AnnouncedState = keyof typeof TEXTS;

type End = Pick<Job, "jobId" | "jobType" | "status" | "reason">;

/** "image image_1 complete"; for more than two jobs "3 jobs complete, 1 failed, 1 cancelled". */
export function endsText(jobs: readonly End[]): string {
  if (jobs.length <= MOST_NAMED) return jobs.map((job) => `${job.jobType} ${job.jobId} ${endWord(job)}`).join(", ");
  const words = jobs.map((job) => (job.reason === "cancelled" ? "cancelled" : job.status));
  const texts = ["complete", "failed", "cancelled"].flatMap((word) => {
    const count = words.filter((other) => other === word).length;
    return count ? [{ word, count }] : [];
  });
  return texts.map(({ word, count }, index) => `${index ? count : plural(count, "job")} ${word}`).join(", ");
}

/** Speaks through one polite live region. Lives as long as the page. */
export class Announcer {
  /** The element that screen readers watch. */
  #region: Element;
  /** The jobs that ended since the last announcement. */
  #ended: Job[] = [];
  /** For each project its present state, and the state that was announced last. */
  #states = new Map<string, { now: AnnouncedState; said: AnnouncedState }>();
  /** The timer of the next announcement; undefined while there is nothing to say. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the last announcement was made, in ms since the epoch. */
  #spokeAt = -Infinity;

  constructor(region: Element) {
    this.#region = region;
  }

  /** Announce that a job ended. */
  onEnd(job: Job): void {
    this.#ended.push(job);
    this.#plan();
  }

  /** Announce the state of a project's connection, if it changed. The first "connected" is no change. */
  onState(project: string, now: AnnouncedState): void {
    const said = this.#states.get(project)?.said ?? "connected";
    this.#states.set(project, { now, said });
    if (said !== now) this.#plan();
  }

  /** The project left the page. */
  forget(project: string): void {
    this.#states.delete(project);
  }

  #plan(): void {
    const wait = Math.max(SETTLE_MS, this.#spokeAt + PAUSE_MS - Date.now());
    this.#timer ??= setTimeout(() => this.#speak(), wait);
  }

  #speak(): void {
    this.#timer = undefined;
    const words = new Set<string>(); // a set: a loss concerns all projects, and is said once
    for (const state of this.#states.values()) {
      if (state.said !== state.now) words.add(TEXTS[state.now]);
      state.said = state.now;
    }
    if (this.#ended.length) words.add(endsText(this.#ended.splice(0)));
    if (!words.size) return;
    this.#spokeAt = Date.now();
    setText(this.#region, `${[...words].join(". ")}.`);
  }
}
