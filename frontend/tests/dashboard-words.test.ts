/** The page at `/` in words: its address and title, and what it says of jobs and connections. */

import { describe, expect, test } from "vitest";
import { isProjectId, readProjects, title, writeProjects } from "../dashboard/address.js";
import {
  connectionState,
  duration,
  endWord,
  notice,
  outcome,
  percent,
  silence,
  statusText,
  story,
  time,
} from "../dashboard/words.js";
import { job, NOW, sentence, snapshot, withPage } from "./dashboard-support.js";

withPage();

describe("the address", () => {
  test("names one or several projects, each once, and demo if none", () => {
    expect(readProjects("")).toEqual(["demo"]);
    expect(readProjects("?project=&other=1")).toEqual(["demo"]);
    expect(readProjects("?project=a")).toEqual(["a"]);
    expect(readProjects("?project=a&project=b:1&project=a&project=%20c%20")).toEqual(["a", "b:1", "c"]);
    expect(readProjects(writeProjects(["a", "b:1", "x y&z"]))).toEqual(["a", "b:1", "x y&z"]);
  });

  test("knows what a project id is", () => {
    expect(["a", "A.b_c:d-9", "x".repeat(128)].filter(isProjectId)).toHaveLength(3);
    expect(["", "-a", "a b", "ä", "a/b", "x".repeat(129)].filter(isProjectId)).toEqual([]);
  });

  test("gives the page its title, with the number of jobs that run", () => {
    expect(title(["a", "b"], 5)).toBe("(5) a, b · Progress Gateway");
    expect(title(["demo"], 0)).toBe("demo · Progress Gateway");
  });
});

describe("words", () => {
  test("durations", () => {
    const all = [0, 3.5, 3.04, 59.9, 59.99, 65, 3599.6, 7207].map(duration);
    expect(all).toEqual(["0 s", "3.5 s", "3 s", "59.9 s", "1:00", "1:05", "1:00:00", "2:00:07"]);
  });

  test("times, with the day unless it is today", () => {
    expect(time(NOW, NOW)).toBe("12:00:00");
    expect(time(NOW - 86_400_000, NOW)).toContain("31");
  });

  test("a percentage is never rounded up", () => {
    expect(percent(sentence({ percent: 99.97 }))).toBe("99\u00a0%");
    expect(percent(sentence({ percent: 40, status: "failed" }))).toBe("failed");
  });

  test("how a job goes or ended", () => {
    expect(outcome(sentence({ message: "voice 2" }))).toBe("voice 2");
    expect(outcome(sentence())).toBe("");
    expect(outcome(sentence({ status: "complete", result: { file: "a.mp3", duration: 83 } }))).toBe("a.mp3 · 1:23");
    expect(outcome(sentence({ status: "complete", result: { duration: 0 } }))).toBe("0 s");
    expect(outcome(sentence({ status: "complete" }))).toBe("");
    expect(outcome(sentence({ status: "failed", error: "" }))).toBe("No reason was given");
    expect(outcome(sentence({ status: "failed", error: "", reason: "error" }))).toBe("No reason was given");
    expect(outcome(sentence({ status: "failed", error: "", reason: "cancelled" }))).toBe("");
    const reasons = [undefined, "error", "cancelled", "timed_out", "lost"] as const;
    const words = reasons.map((reason) => endWord(sentence({ status: "failed", reason })));
    expect(words).toEqual(["failed", "failed", "cancelled", "timed out", "worker lost"]);
  });

  test("what a sentence says stands beside its bar only", () => {
    const all = [sentence({ message: "voice 1" }), sentence({ status: "failed", error: "no voice" })];
    expect(story(job("a", { message: "voice 1" }), all)).toBe("");
    expect(story(job("a", { message: "mixing" }), all)).toBe("mixing");
    expect(story(job("a", { status: "failed", error: "no voice" }), all)).toBe("1 of 2 failed: no voice");
    expect(story(job("a", { status: "failed", error: "out of memory" }), all)).toBe("out of memory");
  });

  test("for how long a job is silent", () => {
    expect(silence(job("a"), 0, NOW)).toBe("");
    expect(silence(job("a", { isSilent: true }), NOW - 4_200, NOW)).toBe("silent for 4 s");
    expect(silence(job("a", { isSilent: true }), NOW + 1_000, NOW)).toBe("silent for 0 s"); // a clock that was put back
  });

  test("how a connection stands", () => {
    expect(statusText(snapshot(), NOW)).toBe("Connected");
    expect(statusText(snapshot({ isStale: true }), NOW)).toBe("Connected, but stale");
    expect(connectionState(snapshot({ isStale: true }))).toBe("stale");
    expect(statusText(snapshot({ status: "connecting", isStale: true }), NOW)).toBe("Connecting");
    const away = snapshot({ status: "disconnected", isStale: true, retryAt: NOW + 3_200 });
    expect(statusText(away, NOW)).toBe("Disconnected, retrying in 4 s");
    expect(statusText(away, NOW + 5_000)).toBe("Disconnected, retrying in 1 s");
    expect(statusText({ ...away, retryAt: null }, NOW)).toBe("Disconnected");
  });

  test("a notice says why, and since when what is seen may be old", () => {
    expect(notice(snapshot(), NOW)).toBe("");
    expect(notice(snapshot({ status: "connecting", isStale: true }), NOW)).toBe("");
    const lost = { status: "disconnected", isStale: true, staleSince: NOW } as const;
    const because = (code: number | string, message = ""): string =>
      notice(snapshot({ ...lost, error: { code, message } }), NOW);
    expect(because(1006)).toBe("The gateway cannot be reached.");
    expect(because(1006, "")).toBe("The gateway cannot be reached.");
    expect(because(1012, "Restart")).toBe("Restart.");
    expect(because("offline", "No network")).toBe("This computer has no network.");
    expect(because("bad_project_id")).toContain("not a project id");
    expect(because("unavailable", "Redis does not let it.")).toBe("Redis does not let it.");
    expect(because("constructor")).toBe("The connection ended with code constructor.");
    expect(because(4499)).toBe("The connection ended with code 4499.");
    expect(notice(snapshot(lost), NOW + 500)).toBe(""); // it may be over in a moment
    expect(notice(snapshot(lost), NOW + 5_000)).toBe("What you see may be out of date since 12:00:00.");
    expect(notice(snapshot({ isStale: true }), NOW)).toBe("Events may be missing. What you see may be out of date.");
  });

  test("a gap is told until it is known", () => {
    expect(notice(snapshot({ recovered: false }), NOW)).toContain("Some missed events");
    expect(notice(snapshot({ recovered: false }), NOW, true)).toBe("");
  });
});
