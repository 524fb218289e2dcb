/** A process that stops ends its jobs: by a signal, by an error that nobody caught, with nothing left to do. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Redis as Ioredis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Redis } from "../../frontend/e2e/support/processes.js";
import { inTime } from "../../frontend/e2e/support/wait.js";
import { createPublisher, type Publisher, type RememberedEvent } from "../src/index.js";

const PATIENCE_MS = 100_000; // ten processes start at once, beside all other tests
const PROGRAM = join(import.meta.dirname, "programs/job.mjs");

let redis: Redis;
let client: Ioredis;
let publisher: Publisher;
beforeAll(async () => {
  redis = await Redis.start();
  client = new Ioredis(redis.port, "127.0.0.1");
  publisher = createPublisher({ redis: client });
});
afterAll(async () => {
  client.disconnect();
  await redis.end();
});

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  errors: string;
  own: RememberedEvent | null;
  sentence: RememberedEvent | null;
}

/** Run a worker to its end; a signal is sent once its job is known. */
async function end(way: string, signal?: NodeJS.Signals): Promise<Ended> {
  const project = `${way}-${signal ?? "none"}`;
  const { NODE_ENV: _, ...env } = process.env;
  const child: ChildProcess = spawn(process.execPath, [PROGRAM, String(redis.port), project, way], {
    env,
    stdio: "pipe",
  });
  let errors = "";
  child.stderr!.on("data", (data) => (errors += String(data)));
  const exit = once(child, "exit");
  try {
    if (signal) {
      await inTime(`${way} to begin: ${errors}`, Promise.race([once(child.stdout!, "data"), exit]), PATIENCE_MS);
      child.kill(signal);
    } else {
      child.stdout!.resume();
    }
    const [code, by] = await inTime(`${way} to end`, exit, PATIENCE_MS);
    const own = await publisher.lastEvent(project, "j");
    return { code, signal: by, errors, own, sentence: await publisher.lastEvent(project, "j", "s") };
  } finally {
    child.kill("SIGKILL");
  }
}

describe.concurrent("a process ends", () => {
  test("by SIGTERM: its jobs are lost, and it ends by the signal as before", async () => {
    const lost = { type: "job_failed", error: "Stopped: its worker ended", reason: "lost", attempt: 0 };
    expect(await end("waits", "SIGTERM")).toMatchObject({ signal: "SIGTERM", own: lost, sentence: lost });
  });

  test("by Ctrl-C: they are cancelled", async () => {
    const interrupted = { error: "Interrupted", reason: "cancelled" };
    expect(await end("waits", "SIGINT")).toMatchObject({ signal: "SIGINT", own: interrupted });
  });

  test("by kill -9: nothing can be said, and the promise of a next event is broken", async () => {
    const silent = { type: "progress", progress: 40, nextWithin: 30 };
    expect(await end("waits", "SIGKILL")).toMatchObject({ signal: "SIGKILL", own: silent });
  });

  test("a job that is retried goes on elsewhere", async () => {
    const { own, signal } = await end("retried", "SIGTERM");
    expect(own).toMatchObject({ progress: 40, message: "Stopped: its worker ended; it will be tried again" });
    expect([own && "nextWithin" in own, signal]).toEqual([false, "SIGTERM"]);
  });

  test.each([
    ["opted-out", null, "SIGTERM"],
    ["left", null, "SIGTERM"],
    ["own-handler", 7, null],
  ] as const)("%s: nothing is done to the job", async (way, code, by) => {
    const ended = await end(way, "SIGTERM");
    expect(ended).toMatchObject({ code, signal: by, own: { type: "progress", progress: 40 } });
  });

  test("by an error that nobody caught: its jobs are lost, and Node.js tells of it and exits with 1", async () => {
    const ended = await end("uncaught");
    expect(ended).toMatchObject({ code: 1, own: { error: "Stopped: its worker ended", reason: "lost" } });
    expect(ended.errors).toContain("RangeError: boom");
  });

  test("by a rejection that nobody handled within the work of a job: this job failed by it", async () => {
    const ended = await end("unhandled");
    expect(ended).toMatchObject({ code: 1, own: { error: "RangeError: nobody waits for this" } });
  });

  test("with nothing left to do: the last progress is sent, and its job is lost", async () => {
    expect(await end("idle")).toMatchObject({ code: 0, own: { error: "Stopped: its worker ended", reason: "lost" } });
  });

  test("after close", async () => {
    expect(await end("closes")).toMatchObject({ code: 0, own: { reason: "lost" } });
  });
});
