/** Redis is gone, or frozen: no job breaks, one is delayed once, and ends arrive later. */

import { describe, expect, test } from "vitest";
import { Redis } from "../../frontend/e2e/support/processes.js";
import { until } from "../../frontend/e2e/support/wait.js";
import { createPublisher, PublishError } from "../src/index.js";
import { CLIENTS } from "./support/clients.js";
import { Collected } from "./support/collected.js";

const event = { type: "progress", jobId: "j", jobType: "audio", progress: 40 } as const;
const names = Object.keys(CLIENTS);

// Side by side: most of the time is the 5 seconds for which an event is tried.
describe.concurrent.each(names)("with %s", (name) => {
  test("while Redis is gone one event is tried and the next given up at once; ends arrive when it is back", async () => {
    const redis = await Redis.start();
    const client = await CLIENTS[name]!(redis.port);
    const log = new Collected();
    const publisher = createPublisher({ redis: client.client, logger: log });
    try {
      const job = publisher.trackJob("p", "j", "audio");
      job.progress(40);
      await publisher.flush();
      await redis.kill({ keep: false });
      const before = performance.now();
      expect(await publisher.broadcastToProject("p", { ...event, jobId: "k" })).toBeNull();
      const first = performance.now() - before;
      for (let i = 0; i < 100; i++)
        expect(await publisher.broadcastToProject("p", { ...event, jobId: "k" })).toBeNull();
      // A ratio: a hundred more took less than the one that was tried.
      expect(performance.now() - before - first).toBeLessThan(first);
      await expect(publisher.broadcastToProject("p", event, { strict: true })).rejects.toBeInstanceOf(PublishError);
      await expect(publisher.lastEvent("p", "j")).rejects.toBeInstanceOf(PublishError);
      expect(await job.complete({ file: "a.mp3" })).toBeNull();
      expect(log.lines.filter((line) => line.includes("Not sent"))).toHaveLength(1);
      expect(log.lines.join()).toMatch(/Not sent after \d+\.\d s: progress of job '[jk]' in project 'p'.*Redis: /);
      await redis.start();
      await until(
        "the end",
        async () => (await publisher.lastEvent("p", "j").catch(() => null))?.type === "job_complete",
      );
      await until("the circuit to close", () => publisher.broadcastToProject("p", { ...event, jobId: "l" }));
      expect(log.lines.some((line) => /Redis answers again; \d+ more events were not sent/.test(line))).toBe(true);
    } finally {
      await publisher.close();
      await client.end();
      await redis.end();
    }
  });

  test("a frozen Redis takes nothing, and then goes on", async () => {
    const redis = await Redis.start();
    const client = await CLIENTS[name]!(redis.port);
    const publisher = createPublisher({ redis: client.client, logger: new Collected() });
    try {
      await publisher.broadcastToProject("p", event);
      redis.freeze();
      expect(await publisher.broadcastToProject("p", event)).toBeNull();
      redis.thaw();
      await until("an event to be taken", () => publisher.broadcastToProject("p", event));
    } finally {
      redis.thaw();
      await publisher.close();
      await client.end();
      await redis.end();
    }
  });
});
