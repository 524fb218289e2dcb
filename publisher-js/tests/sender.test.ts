/** The sender: one batch of a lane at a time, and nothing of it breaks a job. */

import { expect, test, vi } from "vitest";
import { createPublisher, currentJob } from "../src/index.js";
import { Collected } from "./support/collected.js";

/** A client like ioredis' that answers as a test says. */
const client = (call: (...words: string[]) => unknown) => ({
  status: "ready",
  call: async (...words: string[]) => call(...words),
});
const payloadOf = (words: string[]): { jobId: string; progress?: number; type: string } => JSON.parse(words[5]!);

test("while a batch is on its way the latest waits, and goes alone", async () => {
  const seen: (number | undefined)[] = [];
  let answer: (value: unknown) => void = () => {};
  const redis = client((...words) => {
    seen.push(payloadOf(words).progress);
    return new Promise((resolve) => (answer = resolve));
  });
  const publisher = createPublisher({ redis, logger: new Collected() });
  const job = publisher.trackJob("p", "j", "audio", { perSecond: 1_000 });
  await vi.waitFor(() => expect(seen).toEqual([0]));
  for (const percent of [10, 20, 30]) job.progress(percent);
  await Promise.resolve();
  expect(seen).toEqual([0]);
  answer([5, 0]);
  await vi.waitFor(() => expect(seen).toEqual([0, 30]));
  answer(6);
  job.drop();
  await publisher.close();
});

test("a client that throws, or answers nonsense, breaks no job and is logged once", async () => {
  for (const nonsense of [
    () => {
      throw new TypeError("a bug");
    },
    () => ({ odd: true }),
    () => "OK",
  ]) {
    const log = new Collected();
    const publisher = createPublisher({ redis: client(nonsense), logger: log });
    expect(await publisher.trackJob("p", "j", "audio", (job) => job.percent)).toBe(0);
    expect(
      await publisher.broadcastToProject("p", { type: "progress", jobId: "k", jobType: "a", progress: 1 }),
    ).toBeNull();
    expect(log.lines.length).toBeGreaterThan(0);
    expect(log.lines.length).toBeLessThan(3);
    await publisher.close();
  }
}, 60_000);

test("what is sent is no work of the job that said it", async () => {
  const inside: string[] = [];
  const redis = client(() => {
    try {
      inside.push(currentJob().jobId);
    } catch {
      inside.push("none");
    }
    return [5, 0];
  });
  const publisher = createPublisher({ redis, logger: new Collected() });
  await publisher.trackJob("p", "j", "audio", async (job) => {
    job.progress(5);
    await publisher.flush();
  });
  expect(new Set(inside)).toEqual(new Set(["none"]));
  await publisher.close();
});

test("a logger that throws breaks no job", async () => {
  const broken = () => {
    throw new Error("the disk is full");
  };
  const publisher = createPublisher({ redis: client(() => [0, 4]), logger: { warn: broken, error: broken } });
  expect(await publisher.trackJob("p", "j", "audio", () => 4)).toBe(4);
  await publisher.close();
});
