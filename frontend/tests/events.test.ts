import { expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, failed, frame, P, page, progress, watch, withFakeTime } from "./support.js";

withFakeTime();

// Ends

test("a terminal event sent while offline arrives exactly once", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.publish(P, { type: "progress", jobId: "a", jobType: "audio", progress: 40 });
  await frame();
  gateway.isUp = false;
  gateway.closeAll();
  await frame();
  gateway.publish(P, { type: "job_complete", jobId: "a", jobType: "audio", result: { file: "a.mp3" } });
  await advance(3_000);
  expect(watcher.ends).toHaveLength(0);
  gateway.isUp = true;
  await advance(20_000);
  expect(watcher.now).toMatchObject({ status: "connected", isStale: false, jobs: { a: { status: "complete" } } });
  expect(watcher.events.map(({ type }) => type)).toEqual(["progress", "job_complete"]);
  expect(watcher.ends).toHaveLength(1);
  for (let i = 0; i < 3; i++) {
    gateway.closeAll();
    await advance(20_000);
  }
  expect(watcher.events).toHaveLength(2);
  expect(watcher.ends).toHaveLength(1);
});

test("an end is reported once, with the state of the job then, however often it arrives", async () => {
  const shown = await page();
  const end = complete("a", { seq: 5, attempt: 0 });
  await shown.hear(progress("a", 40, { seq: 4, attempt: 0 }), end, end);
  await shown.hear(end, { ...end, seq: 6 }, failed("a", { seq: 7, attempt: 0 }));
  await shown.drop();
  await shown.join(7);
  await shown.hear(end, { ...end, seq: 7 });
  expect(shown.ends).toHaveLength(1);
  expect(shown.ends[0]).toMatchObject({
    job: { jobId: "a", status: "complete", percent: 100, isTerminal: true },
    event: { type: "job_complete", seq: 5 },
  });
});

test("ends without seq or attempt are reported once too", async () => {
  const shown = await page();
  await shown.hear(failed("a"), failed("a"), complete("b", { seq: 1 }), complete("b", { seq: 2 }));
  expect(shown.ends.map(({ job }) => job.jobId)).toEqual(["a", "b"]);
});

test("the end of each attempt is reported", async () => {
  const shown = await page();
  await shown.hear(failed("a", { seq: 1, attempt: 0 }), progress("a", 10, { seq: 2, attempt: 1 }));
  await shown.hear(failed("a", { seq: 3, attempt: 1 }), complete("a", { seq: 4, attempt: 2 }));
  expect(shown.ends.map(({ event }) => event.attempt)).toEqual([0, 1, 2]);
});

test("a job without attempts that begins anew can end again", async () => {
  const shown = await page();
  await shown.hear(complete("a", { seq: 1 }), progress("a", 0, { seq: 2 }), failed("a", { seq: 3 }));
  expect(shown.ends.map(({ job }) => job.status)).toEqual(["complete", "failed"]);
});

test("each end of a sentence, and of the job itself, is reported", async () => {
  const shown = await page();
  await shown.hear(
    complete("a", { seq: 1, sentenceId: "s1" }),
    complete("a", { seq: 2, sentenceId: "s2" }),
    complete("a", { seq: 2, sentenceId: "s2" }),
    complete("a", { seq: 3 }),
  );
  expect(shown.ends.map(({ event, what }) => [what, event.sentenceId])).toEqual([
    ["sentence", "s1"],
    ["job", "s1"], // all that was known of it had ended; and its own end says nothing else
    ["sentence", "s2"],
  ]);
});

test("progress is no end", async () => {
  const shown = await page();
  await shown.hear(progress("a", 100, { seq: 1 }));
  expect(shown.ends).toEqual([]);
  expect(shown.job("a")).toMatchObject({ status: "running", isTerminal: false });
});

// Replay and news

test("replayed events are marked: a page does not celebrate yesterday's result", async () => {
  const shown = await page(10);
  await shown.hear(complete("old", { seq: 9 }), progress("a", 40, { seq: 10 }), complete("a", { seq: 11 }));
  expect(shown.events.map(({ seq, isReplay }) => [seq, isReplay])).toEqual([
    [9, true],
    [10, true],
    [11, false],
  ]);
  expect(shown.ends.map(({ event }) => event.isReplay)).toEqual([true, false]);
  expect(shown.now.jobs).toMatchObject({ old: { status: "complete" }, a: { status: "complete" } });
});

test("what is replayed after a reconnect is marked, and what comes then is news", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  await shown.drop();
  await shown.join(5);
  await shown.hear(progress("a", 50, { seq: 5 }), progress("a", 60, { seq: 6 }));
  expect(shown.events.map(({ isReplay }) => isReplay)).toEqual([false, true, false]);
});

test("an event without seq is never replayed, so it is news", async () => {
  const shown = await page(100);
  await shown.hear(progress("a", 10));
  await shown.endReplay();
  expect(shown.events[0]!.isReplay).toBe(false);
});

test("`lastEvent` is the newest event known, replayed or not", async () => {
  const shown = await page(10);
  expect(shown.now.lastEvent).toBeNull();
  await shown.hear(progress("a", 40, { seq: 10 }));
  expect(shown.now.lastEvent).toMatchObject({ seq: 10, isReplay: true });
  await shown.hear(progress("b", 50, { seq: 11 }), progress("b", 40, { seq: 9 }));
  expect(shown.now.lastEvent).toMatchObject({ seq: 11, isReplay: false });
  await shown.drop();
  expect(shown.now.lastEvent).toMatchObject({ seq: 11 });
});

test("events carry everything that was sent, and an event is the same object everywhere", async () => {
  const shown = await page();
  const other = watch(shown.client);
  const sent = progress("a", 40, { seq: 1, message: "voice 2 of 5", sentenceId: "s1", attempt: 2, nextWithin: 9 });
  await shown.hear(sent);
  expect(shown.events).toEqual([{ ...sent, isReplay: false, publishedAt: 0 }]);
  expect(other.events[0]).toBe(shown.events[0]);
  expect(shown.now.lastEvent).toBe(shown.events[0]);
  expect(shown.now.events).toEqual(shown.events);
});

test("when an event was published is what its seq says, not when the page heard of it", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1_767_268_800_123_456 }), progress("plain", 10));
  await advance(5_000);
  expect(shown.events.map(({ publishedAt }) => publishedAt)).toEqual([1_767_268_800_123, null]);
  expect(shown.job("a").publishedAt).toBe(1_767_268_800_123);
  expect(shown.job("plain").publishedAt).toBeNull();
});

test("events are reported at once, not at the next frame", async () => {
  const shown = await page();
  shown.last.say(progress("a", 40, { seq: 1 }), complete("b", { seq: 2 }));
  expect(shown.events).toHaveLength(2);
  expect(shown.ends).toHaveLength(1);
});

test.each([
  ["100 events by default", undefined, 100],
  ["as many as `historyLimit` says", 7, 7],
  ["one", 1, 1],
])("a snapshot holds the last of the events: %s", async (_name, historyLimit, expected) => {
  const shown = await page(0, { historyLimit });
  for (let seq = 1; seq <= 150; seq++) shown.last.say(progress("a", 1, { seq }));
  await frame();
  const seqs = shown.now.events.map(({ seq }) => seq);
  expect(seqs).toEqual(Array.from({ length: expected }, (_, i) => 151 - expected + i));
  expect(shown.events).toHaveLength(150);
});

// Bursts

const burst = (count: number): object[] =>
  Array.from({ length: count }, (_, i) => progress(`job_${i % 20}`, i / 20, { seq: i + 1 }));

test("2,000 events in a burst all reach `onEvent`, and the page is drawn once", async () => {
  const shown = await page();
  const before = shown.snapshots.length;
  shown.last.say(...burst(2_000));
  await advance(500);
  expect(shown.events.map(({ seq }) => seq)).toEqual(Array.from({ length: 2_000 }, (_, i) => i + 1));
  expect(shown.snapshots.length - before).toBe(1);
  expect(Object.keys(shown.now.jobs)).toHaveLength(20);
});

test("a burst over many frames changes the snapshot at most once a frame", async () => {
  const shown = await page();
  const before = shown.snapshots.length;
  for (const message of burst(2_000)) {
    shown.last.say(message);
    await advance(1);
  }
  await advance(100);
  const drawn = shown.snapshots.length - before;
  expect(shown.events).toHaveLength(2_000);
  expect(drawn).toBeGreaterThan(100); // and yet it is live
  expect(drawn).toBeLessThanOrEqual(126); // 2,000 ms of frames of 16 ms
});

test("a hidden tab draws no frames: its snapshot still changes, a few times a second", async () => {
  const shown = await page();
  vi.stubGlobal("requestAnimationFrame", () => 0);
  const before = shown.snapshots.length;
  for (const message of burst(1_000)) {
    shown.last.say(message);
    await advance(1);
  }
  await advance(1_000);
  const drawn = shown.snapshots.length - before;
  expect(drawn).toBeGreaterThanOrEqual(2);
  expect(drawn).toBeLessThanOrEqual(20);
  expect(shown.now.lastEvent).toMatchObject({ seq: 1_000 });
});

test("a hidden tab does not pile up frames that would all be drawn when it is shown", async () => {
  const shown = await page();
  const frames = new Set<number>();
  let last = 0;
  vi.stubGlobal("requestAnimationFrame", () => {
    frames.add(++last);
    return last;
  });
  vi.stubGlobal("cancelAnimationFrame", (id: number) => frames.delete(id));
  for (const message of burst(50)) {
    shown.last.say(message);
    await advance(150);
  }
  expect(last).toBeGreaterThan(10);
  expect(frames.size).toBeLessThanOrEqual(1);
});

test("without `requestAnimationFrame`, in Node or a worker, the snapshot changes as well", async () => {
  vi.stubGlobal("requestAnimationFrame", undefined);
  const shown = await page();
  shown.last.say(...burst(100));
  await advance(1_000);
  expect(shown.now.lastEvent).toMatchObject({ seq: 100 });
});

test("a `requestAnimationFrame` that calls at once, like the stubs of many test suites, does no harm", async () => {
  vi.stubGlobal("requestAnimationFrame", (callback: (time: number) => void) => {
    callback(0);
    return 1;
  });
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  expect(shown.job("a").percent).toBe(10);
});

test("all that changes in one frame is seen together", async () => {
  const shown = await page();
  const before = shown.snapshots.length;
  shown.last.say(progress("a", 10, { seq: 1 }), { type: "stale" }, complete("b", { seq: 2 }));
  await frame();
  expect(shown.snapshots).toHaveLength(before + 1);
  expect(shown.now).toMatchObject({ isStale: true, lastEvent: { seq: 2 }, jobs: { a: {}, b: {} } });
});
