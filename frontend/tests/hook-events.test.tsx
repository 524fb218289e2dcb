/** `useWebSocket`: what `onEvent` and `onTerminal` are told, and how often that renders. */

import { render } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { type Job, type JobEvent, ProgressProvider } from "../src/index.js";
import { advance, complete, noted, page, progress, watcher, withClock } from "./react-support.js";

withClock();

test("each event of a burst of 2,000 reaches onEvent, in order, with few renders", async () => {
  const seqs: number[] = [];
  const { gateway, frames, last } = page("project_1", { onEvent: ({ seq }) => seqs.push(seq!) });
  await advance();
  const before = frames.length;
  const published: number[] = [];
  for (let n = 0; n < 2_000; n++) published.push(gateway.publish("project_1", progress(`job_${n % 20}`, n / 20))!);
  await advance(5_000);
  expect(seqs).toEqual(published);
  expect(frames.length - before).toBeLessThanOrEqual(2);
  expect(Object.keys(last().jobs)).toHaveLength(20);
  expect(last().jobs["job_19"]?.percent).toBe(1999 / 20);
  expect(
    last().events.map(({ seq }) => seq),
    "bounded",
  ).toEqual(published.slice(-100));
  expect(last().lastEvent?.seq).toBe(published.at(-1));
});

test("a burst that takes a second renders at most once a frame, and does not wait for its end", async () => {
  const { gateway, frames } = page("project_1");
  await advance();
  const before = frames.length;
  for (let ms = 0; ms < 1_000; ms += 2) {
    gateway.publish("project_1", progress("job_1", ms / 10));
    gateway.publish("project_1", progress("job_2", ms / 10));
    await advance(2);
  }
  const renders = frames.length - before;
  expect(renders).toBeLessThanOrEqual(1_000 / 16 + 1);
  expect(renders).toBeGreaterThan(20);
});

test("in a hidden tab, which has no frames, what is shown changes too, and still not with every event", async () => {
  vi.stubGlobal("requestAnimationFrame", () => 0);
  const { gateway, frames, last } = page("project_1");
  await advance(500);
  expect(last().status).toBe("connected");
  const before = frames.length;
  for (let n = 1; n <= 100; n++) gateway.publish("project_1", progress("job_1", n));
  await advance(500);
  expect(last().jobs["job_1"]?.percent).toBe(100);
  expect(frames.length - before).toBe(1);
});

test("what was before the page is marked as a replay for onEvent, what comes is not", async () => {
  const { gateway, client } = noted();
  gateway.publish("project_1", complete("yesterday"));
  const seen: [string, boolean][] = [];
  const { Watch } = watcher();
  render(
    <ProgressProvider client={client()}>
      <Watch id="project_1" onEvent={({ jobId, isReplay }) => seen.push([jobId, isReplay])} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("today"));
  await advance();
  expect(seen).toEqual([
    ["yesterday", true],
    ["today", false],
  ]);
});

test("onTerminal is called once for a job, with the job and its event, whatever is sent again", async () => {
  const ends: [Job, JobEvent, "job" | "sentence"][] = [];
  const { gateway, last } = page("project_1", { onTerminal: (...end) => ends.push(end) });
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  const seq = gateway.publish("project_1", complete("job_1"));
  await advance();
  expect(ends).toHaveLength(1);
  expect(ends[0]![0]).toMatchObject({ jobId: "job_1", status: "complete", percent: 100, isTerminal: true });
  expect(ends[0]![1]).toMatchObject({ type: "job_complete", jobId: "job_1", seq });
  gateway.connections[0]!.send({ ...complete("job_1"), projectId: "project_1", seq });
  await advance();
  for (let n = 0; n < 3; n++) {
    gateway.closeAll();
    await advance(30_000);
  }
  gateway.forget(); // so that it is replayed as a whole
  gateway.publish("project_1", complete("job_1"));
  gateway.closeAll();
  await advance(30_000);
  expect(last().status).toBe("connected");
  expect(ends).toHaveLength(1);
});

test("an end that was published while offline reaches onTerminal exactly once", async () => {
  const ends: string[] = [];
  const { gateway, last } = page("project_1", { onTerminal: ({ jobId }) => ends.push(jobId) });
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.isUp = false;
  gateway.closeAll();
  gateway.publish("project_1", complete("job_1"));
  await advance(10_000);
  expect(last()).toMatchObject({ status: "disconnected", jobs: { job_1: { percent: 10 } } });
  expect(ends).toEqual([]);
  gateway.isUp = true;
  await advance(30_000);
  expect(last()).toMatchObject({ status: "connected", jobs: { job_1: { percent: 100 } } });
  expect(ends).toEqual(["job_1"]);
});

test("two components are each told of each event and of each end", async () => {
  const { gateway, client } = noted();
  const { Watch } = watcher();
  const calls = [vi.fn(), vi.fn(), vi.fn(), vi.fn()] as const;
  render(
    <ProgressProvider client={client()}>
      <Watch id="project_1" onEvent={calls[0]} onTerminal={calls[1]} />
      <Watch id="project_1" onEvent={calls[2]} onTerminal={calls[3]} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  await advance();
  for (const call of calls) expect(call).toHaveBeenCalledOnce();
});

test("an onEvent or onTerminal that throws is reported, and breaks nothing", async () => {
  const { gateway, client } = noted();
  const bad = watcher();
  const good = watcher();
  const seen = vi.fn();
  const ended = vi.fn();
  const fail = (what: string) => () => {
    throw new Error(`My own mistake in ${what}`);
  };
  render(
    <ProgressProvider client={client()}>
      <bad.Watch id="project_1" onEvent={fail("onEvent")} onTerminal={fail("onTerminal")} />
      <good.Watch id="project_1" onEvent={seen} onTerminal={ended} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  // It is thrown where nothing else is done: from a timer of its own, so window.onerror and error trackers see it.
  await expect(advance()).rejects.toThrow("My own mistake in onEvent");
  await advance();
  expect(seen).toHaveBeenCalledOnce();
  expect(ended).toHaveBeenCalledOnce();
  for (const { last } of [bad, good]) {
    expect(last()).toMatchObject({ status: "connected", error: null, jobs: { job_1: { percent: 100 } } });
  }
  expect(gateway.attempts).toBe(1);
});
