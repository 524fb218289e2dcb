/** Tracked jobs through a real Redis: sentences, ends, retries of a job, and jobs that were begun again elsewhere. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Redis } from "../../frontend/e2e/support/processes.js";
import { until } from "../../frontend/e2e/support/wait.js";
import { createPublisher, currentJob, type Publisher } from "../src/index.js";
import { CLIENTS, type TestClient } from "./support/clients.js";
import { Collected } from "./support/collected.js";
import { type Heard, Viewer } from "./support/viewer.js";

let redis: Redis;
let client: TestClient;
let publisher: Publisher;
let log: Collected;
beforeAll(async () => {
  redis = await Redis.start();
  client = await CLIENTS["ioredis"]!(redis.port);
  log = new Collected();
  publisher = createPublisher({ redis: client.client, logger: log });
});
afterAll(async () => {
  await publisher.close();
  await client.end();
  await redis.end();
});

const viewing = async (project: string, watch: (viewer: Viewer) => Promise<void>): Promise<void> => {
  const viewer = await Viewer.of(redis.port, `project:${project}`);
  try {
    await watch(viewer);
  } finally {
    viewer.end();
  }
};
const isEnd = ({ type, sentenceId }: Heard): boolean => type !== "progress" && sentenceId === undefined;

describe("ends", () => {
  test("the job is complete when its work returns, and what it returned is passed on", () =>
    viewing("returned", async (viewer) => {
      expect(await publisher.trackJob("returned", "j", "audio", () => 4)).toBe(4);
      expect((await viewer.until("the end", isEnd)).at(-1)).toMatchObject({
        type: "job_complete",
        result: {},
        attempt: 0,
      });
    }));

  test("what it throws is the end, and is thrown on", () =>
    viewing("thrown", async (viewer) => {
      const error = new TypeError("no voice");
      const work = publisher.trackJob("thrown", "j", "audio", async (job) => {
        job.progress(40);
        throw error;
      });
      await expect(work).rejects.toBe(error);
      expect((await viewer.until("the end", isEnd)).at(-1)).toMatchObject({
        type: "job_failed",
        error: "TypeError: no voice",
      });
    }));

  test("one end: what comes after it is warned of, once each", async () => {
    await publisher.trackJob("after", "j", "audio", async (job) => {
      expect(await job.fail("no voice", { reason: "cancelled" })).toBeGreaterThan(1e15);
      expect(job.isEnded).toBe(true);
      expect(await job.complete()).toBeNull();
      job.progress(5);
    });
    expect(await publisher.lastEvent("after", "j")).toMatchObject({ error: "no voice", reason: "cancelled" });
    expect(log.lines.filter((line) => line.includes("'after'"))).toEqual([
      "warn publisher: job 'j' of project 'after' has ended; not sent: job_complete",
      "warn publisher: job 'j' of project 'after' has ended; not sent: progress 5",
    ]);
  });

  test("`await using`: a job that nobody ended was stopped before its end", async () => {
    {
      await using job = publisher.trackJob("using", "j", "audio");
      job.progress(5);
    }
    expect(await publisher.lastEvent("using", "j")).toMatchObject({ error: "Stopped before its end", attempt: 0 });
  });

  test("an error that will be tried again is no end; the next attempt begins", () =>
    viewing("again", async (viewer) => {
      const failing = (): never => {
        throw new TypeError("no GPU");
      };
      await expect(publisher.trackJob("again", "j", "audio", { willRetry: TypeError }, failing)).rejects.toThrow(
        "no GPU",
      );
      const told = await viewer.until("the retry", ({ message }) => message?.includes("again") ?? false);
      expect(told.at(-1)).toMatchObject({ message: "TypeError: no GPU; it will be tried again", attempt: 0 });
      expect(told.at(-1)).not.toHaveProperty("nextWithin");
      await publisher.trackJob("again", "j", "audio", () => {});
      const events = await viewer.until("the end", isEnd);
      expect(events.at(-1)).toMatchObject({ type: "job_complete", attempt: 1 });
    }));

  test("the work may be left to another process, or dropped", async () => {
    const left = publisher.trackJob("left", "j", "audio");
    left.progress(40);
    await left.leave("waits for its turn");
    expect(left.isEnded).toBe(true);
    const known = await publisher.lastEvent("left", "j");
    expect(known).toMatchObject({ progress: 40, message: "waits for its turn", attempt: 0 });
    const resumed = publisher.trackJob("left", "j", "audio", { resume: { attempt: 0, percent: 40 } });
    expect(resumed.percent).toBe(40);
    await resumed.complete();
    expect(await publisher.lastEvent("left", "j")).toMatchObject({ type: "job_complete", attempt: 0 });
    const dropped = publisher.trackJob("left", "k", "audio");
    dropped.drop();
    expect(await dropped.complete()).toBeNull();
  });

  test("endJob tells an end from beside, with the open sentences; never a second one", async () => {
    const job = publisher.trackJob("beside", "j", "audio", { heartbeat: null });
    job.sentence("s1").progress(5);
    await job.sentence("s2").complete();
    await publisher.flush();
    await publisher.endJob("beside", "j", "audio", "Stopped: its worker ended", { reason: "lost" });
    await publisher.endJob("beside", "j", "audio", "another", { reason: "lost" });
    const lost = { type: "job_failed", error: "Stopped: its worker ended", reason: "lost", attempt: 0 };
    expect(await publisher.lastEvent("beside", "j")).toMatchObject(lost);
    expect(await publisher.lastEvent("beside", "j", "s1")).toMatchObject(lost);
    expect(await publisher.lastEvent("beside", "j", "s2")).toMatchObject({ type: "job_complete" });
    await publisher.endJob("beside", "never", "audio", new Error("removed from its queue"), { reason: "cancelled" });
    expect(await publisher.lastEvent("beside", "never")).toMatchObject({ error: "removed from its queue", attempt: 0 });
    job.drop();
  });
});

describe("parts and loops", () => {
  test("sentences: each has a bar, and the job shows how far they are together", () =>
    viewing("sentences", async (viewer) => {
      await publisher.trackJob("sentences", "j", "audio", { perSecond: 1_000 }, async (job) => {
        for await (const sentence of job.sentences(["s1", "s2"])) {
          sentence.progress(50, "recording");
          await publisher.flush();
        }
        expect(job.percent).toBe(100);
      });
      const events = await viewer.until("the end", isEnd);
      const own = events.filter(({ sentenceId, type }) => sentenceId === undefined && type === "progress");
      expect(own.map(({ progress }) => progress)).toEqual(expect.arrayContaining([25, 75]));
      expect(events.filter(({ type, sentenceId }) => type === "job_complete" && sentenceId)).toHaveLength(2);
    }));

  test("an open sentence ends as its job does, before it", () =>
    viewing("open", async (viewer) => {
      await publisher.trackJob("open", "j", "audio", async (job) => {
        job.sentence("s").progress(10);
        expect(job.sentence("s")).toBe(job.sentence("s"));
        await job.fail("no voice");
      });
      const ends = (await viewer.until("the end", isEnd)).filter(({ type }) => type === "job_failed");
      expect(ends.map(({ sentenceId }) => sentenceId)).toEqual(["s", undefined]);
    }));

  test("track counts what is done", async () => {
    await publisher.trackJob("loop", "j", "audio", async (job) => {
      const seen = [...job.track(["a", "b"], "page {n} of {total}")];
      expect([seen, job.percent]).toEqual([["a", "b"], 100]);
      for (const _ of job.track(new Set([1]).values())) expect(job.percent).toBe(100);
      await publisher.flush();
      expect(await publisher.lastEvent("loop", "j")).toMatchObject({ message: "1 done" });
    });
  });

  test("currentJob is the job of the work that runs", async () => {
    expect(() => currentJob()).toThrow("no job is tracked here");
    await publisher.trackJob("current", "j", "audio", async (job) => {
      await publisher.flush();
      expect(currentJob()).toBe(job);
    });
  });
});

test("a job that was begun again elsewhere is warned of once, and its words are no longer shown", async () => {
  await publisher.trackJob("twice", "j", "audio", async (first) => {
    await publisher.flush();
    const second = publisher.trackJob("twice", "j", "audio");
    await publisher.flush();
    first.progress(50);
    await until("the first to hear of it", () => first.isEnded);
    first.progress(60);
    await second.complete({ file: "a.mp3" });
  });
  expect(await publisher.lastEvent("twice", "j")).toMatchObject({ type: "job_complete", attempt: 1 });
  expect(log.lines.filter((line) => line.includes("'twice'"))).toEqual([
    "warn publisher: job 'j' of project 'twice' was begun again elsewhere, as attempt 1; this attempt is no longer shown",
  ]);
});

test("what does not fit is an error before anything is sent", async () => {
  expect(() => publisher.trackJob("a b", "j", "audio")).toThrow("projectId: must be");
  await expect(publisher.trackJob("p", "", "audio", () => {})).rejects.toThrow("jobId: must be");
  await publisher.trackJob("fits", "j", "audio", (job) => {
    expect(() => job.progress(101)).toThrow("progress: must be");
    expect(() => job.progress(5, undefined, { data: [] as never })).toThrow("data: must be");
    expect(() => job.complete({ file: 7 as never })).toThrow("result.file: must be");
  });
  expect(await publisher.lastEvent("fits", "j")).toMatchObject({ type: "job_complete" });
});

test("disabled, jobs behave and nothing is sent", async () => {
  const silent = createPublisher({ disabled: true });
  const job = silent.trackJob("silent", "j", "audio");
  job.progress(40);
  job.sentence("s").progress(4);
  expect([job.percent, job.isEnded]).toEqual([40, false]);
  expect([await job.complete(), job.isEnded]).toEqual([null, true]);
  await silent.flush();
  await silent.endJob("silent", "j", "audio", "lost");
  expect(
    await silent.broadcastToProject("silent", { type: "progress", jobId: "j", jobType: "a", progress: 1 }),
  ).toBeNull();
  expect(await publisher.lastEvent("silent", "j")).toBeNull();
});
