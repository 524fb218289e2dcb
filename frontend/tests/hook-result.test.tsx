/** `useWebSocket`: the shape of what a component is given, and what of it stays the same object. */

import { render } from "@testing-library/react";
import { expect, test } from "vitest";
import { ProgressProvider } from "../src/index.js";
import { advance, complete, noted, page, progress, RETRY_MS, watcher, withClock } from "./react-support.js";

withClock();

test("the result has one shape, from the first render on", async () => {
  const { frames, gateway } = page("project_1");
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.closeAll();
  await advance();
  for (const frame of frames) {
    expect(Object.keys(frame).sort()).toEqual(
      [
        "error",
        "events",
        "id", // the test's own
        "isStale",
        "jobCounts",
        "jobs",
        "lastEvent",
        "reconnect",
        "recovered",
        "retryAt",
        "staleSince",
        "status",
      ].sort(),
    );
  }
});

test("the first render says: connecting, nothing known, nothing to rely on", () => {
  const { frames } = page("project_1");
  expect(frames[0]).toMatchObject({
    status: "connecting",
    lastEvent: null,
    events: [],
    jobs: {},
    isStale: true,
    staleSince: null,
    recovered: true,
    error: null,
    retryAt: null,
  });
});

test("lastEvent, events and jobs are given together, newest last", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  gateway.publish("project_1", progress("job_2", 20));
  gateway.publish("project_1", complete("job_1"));
  await advance();
  const { events, lastEvent, jobs } = last();
  expect(events.map(({ type, jobId }) => [type, jobId])).toEqual([
    ["progress", "job_1"],
    ["progress", "job_2"],
    ["job_complete", "job_1"],
  ]);
  expect(lastEvent).toBe(events[2]);
  expect(jobs["job_1"]).toMatchObject({ status: "complete", percent: 100, isTerminal: true });
  expect(jobs["job_1"]?.result).toMatchObject({ file: "job_1.mp3" });
  expect(jobs["job_2"]).toMatchObject({ status: "running", percent: 20, isTerminal: false });
});

test("lastEvent is the newest that is known, also when it was replayed", async () => {
  const wire = noted();
  wire.gateway.publish("project_1", progress("job_1", 10));
  wire.gateway.publish("project_1", progress("job_2", 20));
  const { Watch, last } = watcher();
  render(
    <ProgressProvider client={wire.client()}>
      <Watch id="project_1" />
    </ProgressProvider>,
  );
  await advance();
  expect(last().lastEvent).toMatchObject({ jobId: "job_2", isReplay: true });
});

test("jobs keep the order in which they came, and those that did not change their identity", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  for (const jobId of ["zebra", "ant", "moose"]) gateway.publish("project_1", progress(jobId, 10));
  await advance();
  const before = last().jobs;
  expect(Object.keys(before)).toEqual(["zebra", "ant", "moose"]);
  gateway.publish("project_1", progress("zebra", 50));
  await advance();
  const after = last().jobs;
  expect(Object.keys(after)).toEqual(["zebra", "ant", "moose"]);
  expect(after).not.toBe(before);
  expect(after["ant"]).toBe(before["ant"]);
  expect(after["moose"]).toBe(before["moose"]);
  expect(after["zebra"]).not.toBe(before["zebra"]);
  expect(before["zebra"]?.percent, "a snapshot never changes").toBe(10);
});

test("when only the connection changes, jobs and events stay the same objects", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  const before = last();
  gateway.closeAll();
  await advance();
  expect(last().status).toBe("disconnected");
  expect(last().jobs).toBe(before.jobs);
  expect(last().events).toBe(before.events);
});

test("the result is the same object in each render until something changes, as deps of effects need it", async () => {
  const { results, show } = page("project_1");
  await advance();
  const before = results.at(-1);
  const count = results.length;
  for (let n = 0; n < 5; n++) show("project_1", { onEvent: () => n });
  expect(results).toHaveLength(count + 5);
  for (const result of results.slice(count)) expect(result).toBe(before);
});

test("reconnect is always the same function, as deps of effects need it", async () => {
  const { gateway, frames } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(frames.length).toBeGreaterThan(3);
  expect(new Set(frames.map(({ reconnect }) => reconnect)).size).toBe(1);
});
