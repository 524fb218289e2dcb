/** Publishing through Redis: each client, what is remembered, what is refused. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Redis } from "../../frontend/e2e/support/processes.js";
import { createPublisher, type Publisher } from "../src/index.js";
import { CLIENTS, type TestClient } from "./support/clients.js";
import { Collected } from "./support/collected.js";
import { Viewer } from "./support/viewer.js";

const job = { jobId: "job_7", jobType: "audio" } as const;

let redis: Redis;
beforeAll(async () => {
  redis = await Redis.start();
});
afterAll(() => redis.end());

describe.each(Object.keys(CLIENTS))("with %s", (name) => {
  let client: TestClient;
  let publisher: Publisher;
  let log: Collected;
  let project: string;
  let number = 0;

  beforeAll(async () => {
    client = await CLIENTS[name]!(redis.port);
    log = new Collected();
    publisher = createPublisher({ redis: client.client, logger: log });
  });
  afterAll(async () => {
    await publisher.close();
    await client.end();
  });
  const fresh = () => (project = `${name}_${number++}`);

  test("an event is delivered and remembered, and its seq returned", async () => {
    const viewer = await Viewer.of(redis.port, `project:${fresh()}`);
    const seq = await publisher.broadcastToProject(project, { ...job, type: "progress", progress: 40, message: "a" });
    expect(seq).toBeGreaterThan(1e15);
    const [event] = await viewer.until("the event", () => true);
    expect(event).toEqual({ ...job, seq, type: "progress", progress: 40, message: "a" });
    expect(await publisher.lastEvent(project, "job_7")).toEqual(event);
    expect(await publisher.lastEvent(project, "job_8")).toBeNull();
    viewer.end();
  });

  test("Redis numbers attempts; a replaced one is refused, and said once", async () => {
    fresh();
    const begin = { ...job, type: "progress", progress: 0, attempt: "next" } as const;
    await publisher.broadcastToProject(project, begin);
    expect((await publisher.lastEvent(project, "job_7"))?.attempt).toBe(0);
    await publisher.broadcastToProject(project, begin);
    expect((await publisher.lastEvent(project, "job_7"))?.attempt).toBe(1);
    const late = { ...job, type: "job_complete", attempt: 0 } as const;
    expect(await publisher.broadcastToProject(project, late)).toBeNull();
    expect(await publisher.broadcastToProject(project, late)).toBeNull();
    const said = `job 'job_7' of project '${project}' was begun again elsewhere, as attempt 1; this attempt is no longer shown`;
    expect(log.lines.filter((line) => line.includes(project))).toEqual([`warn publisher: ${said}`]);
  });

  test("many events of several projects, in order", async () => {
    fresh();
    const events = Array.from({ length: 30 }, (_, index) => {
      return [`${project}_${index % 3}`, { ...job, type: "progress", progress: index }] as const;
    });
    const seqs = await publisher.broadcastMany(events);
    expect(seqs.every((seq) => typeof seq === "number")).toBe(true);
    expect(await publisher.lastEvent(`${project}_2`, "job_7")).toMatchObject({ progress: 29, seq: seqs[29] });
    expect(await publisher.broadcastMany([])).toEqual([]);
  });

  test("a tracked job: what is said in one step goes together, and a bar never goes backward", async () => {
    const viewer = await Viewer.of(redis.port, `project:${fresh()}`);
    const seen = await publisher.trackJob(project, "j", "audio", async (tracked) => {
      tracked.progress(40.04, "voice 2 of 5", { data: { voice: 2 } });
      tracked.progress(10);
      await publisher.flush();
      expect(tracked.attempt).toBe(0);
      return tracked.complete({ file: "a.mp3", duration: 3.5 });
    });
    expect(seen).toBeGreaterThan(1e15);
    const events = await viewer.until("the end", ({ type }) => type === "job_complete");
    expect(
      events.map(({ progress, message, data, result, attempt }) => [progress, message, data, result, attempt]),
    ).toEqual([
      [40, "voice 2 of 5", { voice: 2 }, undefined, 0],
      [undefined, undefined, undefined, { file: "a.mp3", duration: 3.5 }, 0],
    ]);
    viewer.end();
  });
});
