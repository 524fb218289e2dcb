/** Shared by the tests of the page at `/`: jobs, and the page as in a browser. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, vi } from "vitest";
import type { Job, JobState, Snapshot } from "../src/core.js";

export const HERE = import.meta.dirname;
export const NOW = new Date(2026, 0, 1, 12, 0, 0).getTime();

export const read = (name: string): string => readFileSync(join(HERE, "../../gateway/static", name), "utf8");

export const job = (jobId: string, more: Partial<Job> = {}): Job => {
  const status = more.status ?? "running";
  const base = {
    jobId,
    jobType: "audio",
    status,
    percent: 40,
    publishedAt: NOW,
    isSilent: false,
    sentences: {},
  } as const;
  return { ...base, isTerminal: status !== "running", ...more };
};
export const sentence = (more: Partial<JobState> = {}): JobState => job("j", more as Partial<Job>);
export const jobs = (...all: Job[]): Snapshot["jobs"] => Object.fromEntries(all.map((one) => [one.jobId, one]));
export const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  status: "connected",
  lastEvent: null,
  events: [],
  jobs: {},
  jobCounts: { running: 0, ended: 0, leftOut: 0 },
  isStale: false,
  staleSince: null,
  recovered: true,
  error: null,
  retryAt: null,
  ...more,
});

/** index.html as a browser has it, without its script. */
function openPage(): void {
  const [, body] = /<body>([\s\S]*)<\/body>/.exec(read("index.html"))!;
  document.body.innerHTML = body!.replace(/<noscript>[\s\S]*?<\/noscript>/, "");
}

export const $ = <E extends Element = HTMLElement>(selector: string): E => {
  const element = document.querySelector<E>(selector);
  if (!element) throw new Error(`no ${selector} in ${document.body.innerHTML}`);
  return element;
};
export const texts = (selector: string): string[] =>
  [...document.querySelectorAll(selector)].map((element) => (element.textContent ?? "").trim());
export const cardOf = (jobId: string): HTMLElement =>
  [...document.querySelectorAll<HTMLElement>(".card")].find(
    (card) => card.querySelector(".id")?.textContent === jobId,
  )!;

/** Let time pass, until everything sent has arrived and is drawn. */
export const advance = async (ms = 20): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));

/** Fake time and the page as it is at first, for each test of a file. */
export function withPage(): void {
  beforeEach(() => {
    vi.useFakeTimers({ now: NOW });
    openPage();
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });
}
