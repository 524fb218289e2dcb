/** A replay is one step: no callback and no snapshot shows half of one. */

import { expect, test } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, failed, frame, P, page, progress, watch, withFakeTime } from "./support.js";

withFakeTime();

const sentences = (count: number, seq = 1): object[] =>
  Array.from({ length: count }, (_, i) => progress("a", 20, { seq: seq + i, sentenceId: `s${i}` }));

test("six sentences side by side, one of them done: a page that opens now shows what the others show", async () => {
  const told = await page();
  const late = await page(6);
  const events = [complete("a", { seq: 1, sentenceId: "s9" }), ...sentences(5, 2)];
  await told.hear(...events);
  await late.hear(...events);
  for (const { now } of [told, late]) {
    expect(now).toMatchObject({ isStale: false, jobs: { a: { status: "running", percent: 100 / 3 } } });
  }
});

test("nothing is reported on the way, and afterwards everything in order: the events, then the ends", async () => {
  const shown = await page(301);
  const before = shown.snapshots.length;
  shown.last.say(complete("a", { seq: 1, sentenceId: "done" }), ...sentences(299, 2));
  await advance(50);
  expect([shown.events, shown.ends, shown.now.jobs]).toEqual([[], [], {}]);
  expect(shown.now).toMatchObject({ status: "connected", isStale: true, lastEvent: null });
  expect(shown.snapshots).toHaveLength(before);
  await shown.hear(progress("b", 1, { seq: 301 }));
  expect(shown.events.map(({ seq }) => seq)).toEqual(Array.from({ length: 301 }, (_, i) => i + 1));
  expect(shown.ends).toMatchObject([
    { what: "sentence", event: { sentenceId: "done" }, job: { status: "running", isTerminal: false } },
  ]);
  expect(shown.now).toMatchObject({ isStale: false, jobs: { a: { status: "running" }, b: {} } });
  expect(shown.snapshots).toHaveLength(before + 1);
});

test("a live event ends a replay whose last event a later attempt has replaced", async () => {
  const shown = await page(9);
  await shown.hear(progress("a", 10, { seq: 5 }));
  expect(shown.events).toEqual([]);
  await shown.hear(progress("a", 20, { seq: 10 }));
  expect(shown.events.map(({ seq, isReplay }) => [seq, isReplay])).toEqual([
    [5, true],
    [10, false],
  ]);
  await advance(1_000);
  expect(shown.last.pings).toBe(0);
});

test("where no event comes any more, the answer to a `ping` ends the replay", async () => {
  const shown = await page(9);
  await shown.hear(complete("a", { seq: 5 }));
  await advance(40);
  expect(shown.last.pings).toBe(0);
  await advance(50);
  expect(shown.last.pings).toBe(1);
  expect([shown.ends, shown.now.isStale]).toEqual([[], true]);
  await shown.hear({ type: "pong" });
  expect(shown.ends).toHaveLength(1);
  expect(shown.now.isStale).toBe(false);
  await shown.drop();
  shown.last.accept();
  expect(shown.last.asked()).toMatchObject([{ since: 9 }]); // everything up to 9 was there
});

test("a `pong` that was asked for before says nothing of a replay", async () => {
  const shown = await page();
  shown.client.probe();
  await shown.hear({ type: "subscribed", projectId: P, seq: 9, recovered: true }, complete("a", { seq: 5 }));
  await shown.hear({ type: "pong" });
  expect(shown.ends).toEqual([]);
  await shown.endReplay();
  expect(shown.ends).toHaveLength(1);
});

test("where nothing is owed there is no replay to wait for", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 5 }));
  await shown.drop();
  await shown.join(5);
  expect(shown.now.isStale).toBe(false);
  await advance(1_000);
  expect(shown.last.pings).toBe(0);
});

test("a replay that is lost on the way leaves no trace, and is asked for again", async () => {
  const shown = await page(9);
  await shown.hear(complete("a", { seq: 5 }));
  await shown.drop();
  await shown.join(9);
  expect(shown.last.asked()).toEqual([{ type: "subscribe", projectId: P }]);
  await shown.hear(complete("a", { seq: 5 }), progress("b", 1, { seq: 9 }));
  expect(shown.events.map(({ seq }) => seq)).toEqual([5, 9]);
  expect(shown.ends).toHaveLength(1);
});

test("an event without seq that arrives amid a replay is applied after it", async () => {
  const shown = await page(9);
  await shown.hear(progress("a", 10, { seq: 5 }), progress("a", 60), progress("b", 1, { seq: 9 }));
  expect(shown.job("a").percent).toBe(60);
  expect(shown.events.map(({ seq }) => seq)).toEqual([5, 9, undefined]);
});

// What was known before

test("an attempt that began in the gap replaces what was known, and an end that was told is not told again", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1, attempt: 0 }),
    complete("a", { seq: 2, attempt: 0, sentenceId: "s1" }),
    progress("a", 50, { seq: 3, attempt: 0, sentenceId: "s2" }),
    complete("b", { seq: 4, attempt: 0 }),
  );
  await shown.drop();
  await shown.join(9);
  await shown.hear(
    complete("b", { seq: 4, attempt: 0 }),
    progress("a", 5, { seq: 7, attempt: 1, sentenceId: "s2" }),
    progress("a", 0, { seq: 9, attempt: 1 }),
  );
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 0, attempt: 1 });
  expect(shown.job("a").sentences).toEqual({ s2: expect.objectContaining({ percent: 5, attempt: 1 }) });
  expect(shown.ends).toHaveLength(2);
});

test("the end of a later attempt is news", async () => {
  const shown = await page();
  await shown.hear(failed("a", { seq: 1, attempt: 0 }));
  await shown.drop();
  await shown.join(9);
  await shown.hear(failed("a", { seq: 9, attempt: 3 }));
  expect(shown.ends.map(({ event }) => event.attempt)).toEqual([0, 3]);
});

test("where a job without a number began anew in the gap, its old sentences go", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1 }), progress("a", 70, { seq: 2, sentenceId: "s1" }));
  await shown.drop();
  await shown.join(9);
  await shown.hear(progress("a", 1, { seq: 8, sentenceId: "s2" }), progress("a", 0, { seq: 9 }));
  expect(Object.keys(shown.job("a").sentences)).toEqual(["s2"]);
});

test("a replica that is a moment behind brings nothing back that an attempt has replaced", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 90, { seq: 1, attempt: 0, sentenceId: "s1" }),
    progress("a", 90, { seq: 2, sentenceId: "s9", jobId: "b" }),
    progress("b", 50, { seq: 3 }),
    { type: "going_away", reconnectIn: [0, 0] },
  );
  const old = shown.sockets[0]!;
  shown.last.accept();
  old.say(progress("a", 0, { seq: 4, attempt: 1 }), progress("b", 0, { seq: 5 }));
  await frame();
  expect(Object.keys(shown.job("b").sentences)).toEqual([]);
  shown.last.subscribed(3);
  await shown.hear(
    progress("a", 90, { seq: 1, attempt: 0, sentenceId: "s1" }),
    progress("b", 90, { seq: 2, sentenceId: "s9" }),
    progress("b", 50, { seq: 3 }),
  );
  await shown.endReplay();
  expect(shown.job("a")).toMatchObject({ percent: 0, attempt: 1, sentences: {} });
  expect(shown.job("b")).toMatchObject({ percent: 0, sentences: {} });
});

test("after a failover to a clock that is behind, a later attempt is seen although its seq is lower", async () => {
  const shown = await page();
  await shown.hear(failed("a", { seq: 1_000, attempt: 0 }));
  await shown.drop();
  await shown.join(900, false);
  await shown.hear(progress("a", 20, { seq: 900, attempt: 1 }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 20, attempt: 1 });
});

// Ends

test("the last sentence of a job without events of its own ends both, the sentence first", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1, sentenceId: "s2" }),
    complete("a", { seq: 2, sentenceId: "s1" }),
    failed("a", { seq: 3, sentenceId: "s2", error: "no voice", reason: "cancelled" }),
  );
  expect(shown.ends.map(({ what, event, job }) => [what, event.sentenceId, job.status])).toEqual([
    ["sentence", "s1", "running"],
    ["sentence", "s2", "failed"],
    ["job", "s2", "failed"],
  ]);
  expect(shown.job("a")).toMatchObject({ error: "no voice", reason: "cancelled", percent: 50 });
});

test("of several failed sentences, the job shows the newest error", async () => {
  const late = await page(3);
  await late.hear(
    failed("a", { seq: 1, sentenceId: "s1", error: "first" }),
    failed("a", { seq: 2, sentenceId: "s2", error: "second", reason: "timed_out" }),
    complete("a", { seq: 3, sentenceId: "s3" }),
  );
  expect(late.job("a")).toMatchObject({ status: "failed", error: "second", reason: "timed_out" });
});

test("a job that is given to onTerminal stays as it was then, also its sentences that are read later", async () => {
  const shown = await page();
  await shown.hear(...sentences(3), complete("a", { seq: 10, sentenceId: "s0" }));
  await shown.hear(complete("a", { seq: 11, sentenceId: "s1" }), progress("a", 5, { seq: 12, sentenceId: "s7" }));
  await shown.hear(progress("a", 0, { seq: 13, attempt: 4 }));
  const percents = ({ sentences }: { sentences: object }): unknown =>
    Object.fromEntries(Object.entries(sentences).map(([id, { percent }]) => [id, percent]));
  expect(shown.ends.map(({ job }) => percents(job))).toEqual([
    { s0: 100, s1: 20, s2: 20 },
    { s0: 100, s1: 100, s2: 20 },
  ]);
  expect(shown.ends.map(({ job }) => job.percent)).toEqual([140 / 3, 220 / 3]);
  expect(shown.job("a").sentences).toEqual({});
});

test("with a gateway: a job that was run again is seen, whatever the first try said", async () => {
  const gateway = new FakeGateway();
  const told = watch(gateway.client());
  await frame();
  const job = { jobId: "a", jobType: "audio" } as const;
  gateway.publish(P, { ...job, type: "progress", progress: 0, attempt: "next" });
  gateway.publish(P, { ...job, type: "job_failed", error: "no space", attempt: 0 });
  gateway.publish(P, { ...job, type: "progress", progress: 0, attempt: "next" });
  expect(gateway.publish(P, { ...job, type: "progress", progress: 90, attempt: 0 })).toBeNull();
  gateway.publish(P, { ...job, type: "job_complete", result: {}, attempt: 1, data: { pages: 3 } });
  await frame();
  const late = watch(gateway.client());
  await frame();
  for (const page of [told, late]) {
    expect(page.job("a")).toMatchObject({ status: "complete", attempt: 1, data: { pages: 3 } });
  }
  expect(told.ends.map(({ event }) => event.attempt)).toEqual([0, 1]);
});
