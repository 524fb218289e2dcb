/** Real workers of BullMQ on a real Redis: what viewers see of each way in which a job can end. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { DelayedError, type Job, Queue, QueueEvents, UnrecoverableError, Worker, type WorkerOptions } from "bullmq";
import { afterEach, expect, test, vi } from "vitest";
import { until } from "../../../frontend/e2e/support/wait.js";
import { jobOf, type WorkerOptions as TrackOptions, trackQueue, trackWorker } from "../../src/bullmq.js";
import { type Line, lineOf, stage, type Watched, watching } from "../support/stage.js";
import type { Heard } from "../support/viewer.js";

const here = stage();
const open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

let queues = 0;
const connection = () => ({ host: "127.0.0.1", port: here.redis.port });

function own<T extends { close(): Promise<unknown> }>(one: T): T {
  open.push(one);
  return one;
}

function newQueue(): Queue {
  const queue = own(new Queue(`videos-${++queues}`, { connection: connection() }));
  queue.on("error", () => {});
  return queue;
}

type Work = (job: Job, token?: string, signal?: AbortSignal) => Promise<unknown>;

function work(queue: Queue, processor: Work, options?: Partial<WorkerOptions>, tracking?: TrackOptions): Worker {
  const worker = own(new Worker(queue.name, processor, { connection: connection(), ...options }));
  worker.on("error", () => {});
  trackWorker(here.publisher, worker, { logger: here.log, ...tracking });
  return worker;
}

const isEnd = ({ type }: Heard): boolean => type.startsWith("job_");
const flush = () => here.publisher.flush(20);
const add = (queue: Queue, { project }: Watched, options = {}) =>
  queue.add("make video", { projectId: project }, { ...options });
const isNew = (line: Line, index: number, lines: Line[]): boolean =>
  lines.findIndex((other) => JSON.stringify(other) === JSON.stringify(line)) === index;
/** What was told until now, each line once: heartbeats repeat. */
const told = async (watched: Watched): Promise<Line[]> => (await watched.story()).filter(isNew);

test("a job is told from its begin to its end, by both ways of reporting", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    work(queue, async (job) => {
      await flush();
      await job.updateProgress(20);
      await flush();
      await job.updateProgress({ percent: 40, message: "voice 2", data: { voice: 2 } });
      await flush();
      jobOf()?.progress(60, "mixing");
      await flush();
      return { file: "a.mp4", duration: 3.5 };
    });
    await add(queue, watched);
    const events = await watched.until("the end", isEnd);
    expect(events.map(lineOf)).toEqual([
      [0, 0, null],
      [0, 20, null],
      [0, 40, "voice 2"],
      [0, 60, "mixing"],
      [0, "job_complete", null],
    ]);
    expect(events[2]?.data).toEqual({ voice: 2 });
    expect(events.at(-1)).toMatchObject({
      jobId: `${queue.name}:1`,
      jobType: "make_video",
      result: { file: "a.mp4", duration: 3.5 },
    });
  }));

test("a failed try that another one follows is no end, and the next is the next attempt", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    work(queue, async (job) => {
      await flush();
      jobOf()?.progress(50, "half");
      await flush();
      if (job.attemptsMade === 0) throw new TypeError("no disk");
    });
    await add(queue, watched, { attempts: 2 });
    await watched.until("the end", isEnd);
    expect(await told(watched)).toEqual([
      [0, 0, null],
      [0, 50, "half"],
      [0, 50, "TypeError: no disk; it will be tried again"],
      [1, 0, null],
      [1, 50, "half"],
      [1, "job_complete", null],
    ]);
  }));

test.each([
  ["the last try", new TypeError("no disk"), 1, [0, "job_failed", "TypeError: no disk"]],
  [
    "an error that cannot be mended",
    new UnrecoverableError("the script is empty"),
    3,
    [0, "job_failed", "the script is empty"],
  ],
  [
    "a time limit",
    new DOMException("too slow", "TimeoutError"),
    1,
    [0, "job_failed", "Timed out: too slow", "timed_out"],
  ],
] as const)("failed for good: %s", (_, error, attempts, end) =>
  watching(here, async (watched) => {
    const queue = newQueue();
    work(queue, async () => {
      throw error;
    });
    await add(queue, watched, { attempts });
    expect((await watched.until("the end", isEnd)).filter(isEnd).map(lineOf)).toEqual([end]);
  }),
);

test("a job that is cancelled at work", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    const worker = work(queue, async (_job, _token, signal) => {
      jobOf()?.progress(50, "half");
      await once(signal as AbortSignal, "abort");
      throw new UnrecoverableError("stopped");
    });
    const job = await add(queue, watched);
    await watched.until("it is at work", ({ progress }) => progress === 50);
    worker.cancelJob(job.id as string);
    const ends = (await watched.until("the end", isEnd)).filter(isEnd);
    expect(ends.map(lineOf)).toEqual([[0, "job_failed", "Cancelled", "cancelled"]]);
  }));

test("a job that puts itself back has no end, and promises nothing meanwhile", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    let times = 0;
    work(queue, async (job, token) => {
      await flush();
      if (times++ === 0) {
        await job.moveToDelayed(Date.now() + 50, token);
        throw new DelayedError();
      }
    });
    await add(queue, watched);
    const events = await watched.until("the end", isEnd);
    expect(events.filter(isEnd).map(lineOf)).toEqual([[1, "job_complete", null]]);
    expect(events.filter(({ attempt }) => attempt === 0).at(-1)?.nextWithin).toBeUndefined();
  }));

test("a job that is removed while it waits is cancelled, whoever removes it", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    const events = own(new QueueEvents(queue.name, { connection: connection() }));
    await events.waitUntilReady();
    const early = await add(queue, watched, { delay: 3_600_000 });
    await trackQueue(here.publisher, queue, events, { logger: here.log });
    const read = vi.spyOn(queue, "getJob");
    const late = await add(queue, watched);
    await until("its names are noted", async () => read.mock.settledResults.some(({ type }) => type === "fulfilled"));
    await early.remove();
    await queue.remove(late.id as string);
    const ended = (id: string | undefined) => (event: Heard) => isEnd(event) && event.jobId === `${queue.name}:${id}`;
    await watched.until("the first end", ended(early.id));
    const told = await watched.until("the second end", ended(late.id));
    expect(told.filter(isEnd).map(lineOf)).toEqual(Array(2).fill([0, "job_failed", "Cancelled", "cancelled"]));
  }));

test("a job without a project is left alone, and what does not fit breaks no job", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    const seen: unknown[] = [];
    const worker = work(queue, async (job) => {
      seen.push(jobOf());
      await job.updateProgress(150);
      await job.updateProgress({ percent: Number.NaN });
      await job.updateProgress(true);
      return { file: "x".repeat(9_000) };
    });
    await queue.add("film", {});
    await queue.add("film", { projectId: "no project!" });
    await add(queue, watched);
    const events = await watched.until("the end", isEnd);
    expect(events.map(lineOf)).toEqual([
      [0, 0, null],
      [0, "job_complete", null],
    ]);
    expect([seen[0], seen[1]]).toEqual([undefined, undefined]);
    expect(here.log.lines.filter((line) => line.includes(queue.name))).toHaveLength(3);
    await worker.close();
  }));

test("names may be taken from elsewhere", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    work(
      queue,
      async () => {},
      {},
      { projectId: (job) => job.data.tenant, jobId: (job) => job.data.film, jobType: "video" },
    );
    await queue.add("film", { tenant: watched.project, film: "cats" });
    const events = await watched.until("the end", isEnd);
    expect(events.at(-1)).toMatchObject({ jobId: "cats", jobType: "video" });
  }));

// kill -9

const CRASHING = fileURLToPath(new URL("crashing-worker.mjs", import.meta.url));

/** A worker in a process of its own, which hangs in each job. */
function startCrashing(queue: Queue): ChildProcess {
  const child = spawn(process.execPath, [CRASHING, queue.name, String(here.redis.port)], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  open.push({ close: async () => child.kill("SIGKILL") });
  return child;
}

const QUICK = { stalledInterval: 300, lockDuration: 1_000, maxStalledCount: 1 };

test("a worker that is killed: no end, a silent job, and the next attempt", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    const child = startCrashing(queue);
    await add(queue, watched);
    await watched.until("it is at work", ({ progress }) => progress === 50);
    child.kill("SIGKILL");
    await once(child, "exit");
    const killed = await watched.events();
    expect(killed.at(-1)?.nextWithin).toBe(4); // viewers see that it is silent when that is over
    work(queue, async () => ({ file: "a.mp4" }), QUICK);
    const events = await watched.until("the end", isEnd);
    expect(events.filter(isEnd).map(lineOf)).toEqual([[1, "job_complete", null]]);
    const again = events.find(({ message }) => message?.includes("again"));
    // The next attempt may begin before it can be said that one follows.
    expect(again === undefined || lineOf(again)).toEqual(
      again === undefined || [0, 50, "Stopped: its worker ended; it will be tried again"],
    );
    expect(again?.nextWithin).toBeUndefined();
  }));

test("a job whose workers are killed too often is lost", () =>
  watching(here, async (watched) => {
    const queue = newQueue();
    const child = startCrashing(queue);
    await add(queue, watched);
    await watched.until("it is at work", ({ progress }) => progress === 50);
    child.kill("SIGKILL");
    work(queue, async () => {}, { ...QUICK, maxStalledCount: 0 });
    const ends = (await watched.until("the end", isEnd)).filter(isEnd);
    expect(ends.map(lineOf)).toEqual([[0, "job_failed", "Stopped: its worker ended", "lost"]]);
  }));
