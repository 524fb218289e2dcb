import { expect, test } from "vitest";
import type { Job } from "../src/core.js";
import { advance, complete, failed, frame, P, page, progress, withFakeTime } from "./support.js";

withFakeTime();

// One job

test("a job shows what its last event said", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1, message: "voice 2 of 5", attempt: 0, nextWithin: 20 }));
  expect(shown.job("a")).toMatchObject({
    jobId: "a",
    jobType: "audio",
    status: "running",
    percent: 40,
    message: "voice 2 of 5",
    attempt: 0,
    seq: 1,
    nextWithin: 20,
    publishedAt: 0,
    isTerminal: false,
    isSilent: false,
    sentences: {},
  });
});

test("a job that is complete is at 100 %, with its result", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1 }), complete("a", { seq: 2, result: { file: "a.mp3", duration: 3.5 } }));
  expect(shown.job("a")).toMatchObject({
    status: "complete",
    percent: 100,
    isTerminal: true,
    result: { file: "a.mp3", duration: 3.5 },
  });
  expect(shown.job("a").error).toBeUndefined();
});

test("a job that failed is at 0 %, and says why: a page that opens now knows nothing else", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1 }), failed("a", { seq: 2, error: "out of memory" }));
  expect(shown.job("a")).toMatchObject({
    status: "failed",
    percent: 0,
    isTerminal: true,
    error: "out of memory",
    reason: "error",
  });
  expect(shown.job("a").result).toBeUndefined();
});

test.each([
  ["never runs backward within an attempt", { attempt: 0 }, [10, 40, 40, 40, 41, 41]],
  ["is what came last, without an attempt", {}, [10, 40, 30, 5, 41, 0]],
])("percent %s", async (_name, fields, expected) => {
  const shown = await page();
  const percents = [];
  for (const [index, percent] of [10, 40, 30, 5, 41, 0].entries()) {
    await shown.hear(progress("a", percent, { seq: index + 1, ...fields }));
    percents.push(shown.job("a").percent);
  }
  expect(percents).toEqual(expected);
});

test("a higher attempt begins anew: a lower percent, and no error of the one before", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, attempt: 0 }), failed("a", { seq: 2, attempt: 0 }));
  await shown.hear(progress("a", 5, { seq: 3, attempt: 1 }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 5, attempt: 1, isTerminal: false });
  expect(shown.job("a").error).toBeUndefined();
});

test("a higher attempt begins anew even if the one before never ended", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, attempt: 0 }), progress("a", 5, { seq: 2, attempt: 1 }));
  expect(shown.job("a")).toMatchObject({ percent: 5, attempt: 1 });
});

test("a late event of a lower attempt is dropped", async () => {
  const shown = await page();
  await shown.hear(progress("a", 5, { seq: 1, attempt: 1 }));
  const before = shown.job("a");
  await shown.hear(progress("a", 80, { seq: 2, attempt: 0 }), failed("a", { seq: 3, attempt: 0 }));
  expect(shown.job("a")).toBe(before);
  expect(shown.events).toHaveLength(1);
  expect(shown.ends).toHaveLength(0);
});

test.each([
  ["complete", complete("a", { seq: 5, attempt: 0 }), failed("a", { seq: 6, attempt: 0 })],
  ["failed", failed("a", { seq: 5, attempt: 0 }), complete("a", { seq: 6, attempt: 0 })],
])("an end is final within its attempt: %s", async (status, end, otherEnd) => {
  const shown = await page();
  await shown.hear(end);
  const before = shown.job("a");
  await shown.hear(otherEnd, progress("a", 50, { seq: 7, attempt: 0 }), progress("a", 60, { attempt: 0 }));
  expect(shown.job("a")).toBe(before);
  expect(before).toMatchObject({ status, isTerminal: true });
});

test("where events carry no attempt, arrival decides: a job that goes on after its end runs again", async () => {
  const shown = await page();
  await shown.hear(complete("a", { seq: 2 }), progress("a", 50, { seq: 3 }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 50, isTerminal: false });
  await shown.hear(complete("a", { seq: 4 }));
  expect(shown.ends).toHaveLength(2);
});

test("without attempts, a progress of 0 after the end begins the job anew", async () => {
  const shown = await page();
  await shown.hear(complete("a", { seq: 1 }), progress("a", 0, { seq: 2 }), progress("a", 10, { seq: 3 }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 10, isTerminal: false });
  expect(shown.job("a").result).toBeUndefined();
});

test("the end that is shown is the one that was reported", async () => {
  const shown = await page();
  await shown.hear(complete("a", { seq: 1 }), failed("a", { seq: 2 }));
  expect(shown.job("a").status).toBe(shown.ends.at(-1)!.job.status);
});

test.each([
  ["older", 9],
  ["the same", 10],
])("an event whose seq is %s is dropped: job, events and callbacks know nothing of it", async (_name, seq) => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 10 }));
  const before = shown.now;
  await shown.hear(progress("a", 90, { seq, message: "late" }));
  expect(shown.job("a")).toBe(before.jobs["a"]);
  expect(shown.now.lastEvent).toBe(before.lastEvent);
  expect(shown.now.events).toHaveLength(1);
  expect(shown.events).toHaveLength(1);
});

test("seq orders the events of one job, not those of another", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 10 }), progress("b", 30, { seq: 9 }));
  expect(shown.job("b").percent).toBe(30);
});

test("after a failover an end replaces a running state even with a lower seq, but not another end", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 10 }), complete("a", { seq: 5 }));
  expect(shown.job("a")).toMatchObject({ status: "complete", percent: 100 });
  await shown.hear(failed("a", { seq: 4 }));
  expect(shown.job("a").status).toBe("complete");
  expect(shown.ends).toHaveLength(1);
});

test("an event without seq is taken as it comes", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 10 }), progress("a", 50), progress("a", 60), complete("a"));
  expect(shown.job("a").status).toBe("complete");
  expect(shown.events).toHaveLength(4);
});

test.each(["constructor", "__proto__", "toString", "hasOwnProperty", "1", "job 7 ü/?"])(
  "a job, and a sentence, may be called %s",
  async (id) => {
    const shown = await page();
    await shown.hear(progress(id, 10, { seq: 1 }), progress(id, 20, { seq: 2 }), complete(id, { seq: 3 }));
    await shown.hear(progress("parts", 30, { seq: 4, sentenceId: id }), complete("parts", { seq: 5, sentenceId: id }));
    expect(Object.keys(shown.now.jobs).sort()).toEqual([id, "parts"].sort());
    expect(Object.getOwnPropertyDescriptor(shown.now.jobs, id)!.value).toMatchObject({ jobId: id, status: "complete" });
    expect(Object.keys(shown.job("parts").sentences)).toEqual([id]);
    expect(shown.job("parts").status).toBe("complete");
    expect(shown.ends.map(({ what }) => what)).toEqual(["job", "sentence", "job"]);
    expect(shown.events).toHaveLength(5);
  },
);

// Snapshots

test("jobs that an event did not touch keep their identity, and so do sentences", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1 }),
    progress("b", 10, { seq: 2, sentenceId: "s1" }),
    progress("b", 10, { seq: 3, sentenceId: "s2" }),
  );
  const before = shown.now;
  await shown.hear(progress("b", 20, { seq: 4, sentenceId: "s2" }));
  const { jobs } = shown.now;
  expect(jobs).not.toBe(before.jobs);
  expect(jobs["a"]).toBe(before.jobs["a"]);
  expect(jobs["b"]).not.toBe(before.jobs["b"]);
  expect(jobs["b"]!.sentences["s1"]).toBe(before.jobs["b"]!.sentences["s1"]);
  expect(jobs["b"]!.sentences["s2"]).toMatchObject({ percent: 20 });
});

test("a snapshot never changes: what was shown before stays as it was", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  const before = shown.now;
  const copy = structuredClone(before);
  await shown.hear(progress("a", 20, { seq: 2 }), complete("b", { seq: 3 }));
  expect(before).toEqual(copy);
});

test("the snapshot is the same object until something changes", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  const before = shown.now;
  const told = shown.snapshots.length;
  await advance(10_000);
  await shown.hear({ type: "pong" });
  expect(shown.now).toBe(before);
  expect(shown.snapshots).toHaveLength(told);
});

test("jobs and events keep their identity when only the connection changes", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  const before = shown.now;
  shown.last.end(1006);
  await frame();
  expect(shown.now).not.toBe(before);
  expect(shown.now.jobs).toBe(before.jobs);
  expect(shown.now.events).toBe(before.events);
  expect(shown.now.lastEvent).toBe(before.lastEvent);
});

test("percents seen by a page only rise, whatever the network repeats", async () => {
  const shown = await page();
  for (let seq = 1; seq <= 50; seq++) {
    await shown.hear(progress("a", seq * 2, { seq, attempt: 0 }), progress("a", seq, { seq: seq - 1, attempt: 0 }));
  }
  const percents = shown.snapshots.map(({ jobs }) => (jobs["a"] as Job | undefined)?.percent ?? 0);
  expect(percents).toEqual([...percents].sort((a, b) => a - b));
  expect(percents.at(-1)).toBe(100);
  expect(shown.last.asked(P)).toHaveLength(1);
});
