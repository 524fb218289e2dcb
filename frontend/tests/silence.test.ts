import { expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, frame, P, page, progress, watch, withFakeTime } from "./support.js";

withFakeTime();

const SECOND = 1_000;

test("a job that breaks its promise is silent, soon after the time that it named", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 5 }));
  await advance(4.9 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
  await advance(1.3 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 10, isTerminal: false });
});

test("an event in time renews the promise", async () => {
  const shown = await page();
  for (let seq = 1; seq < 10; seq++) {
    await shown.hear(progress("a", seq, { seq, nextWithin: 5 }));
    await advance(4 * SECOND);
  }
  expect(shown.snapshots.filter(({ jobs }) => jobs["a"]?.isSilent)).toEqual([]);
});

test("an event ends the silence", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 2 }));
  await advance(4 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
  await shown.hear(progress("a", 20, { seq: 2, nextWithin: 2 }));
  expect(shown.job("a").isSilent).toBe(false);
  await advance(4 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
  await shown.hear(progress("a", 30, { seq: 3 })); // without a promise: nothing to break
  await advance(20 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
});

test("who promised nothing, or ended, is never silent", async () => {
  const shown = await page();
  await shown.hear(progress("slow", 10, { seq: 1 }), progress("done", 10, { seq: 2, nextWithin: 2 }));
  await shown.hear(complete("done", { seq: 3 }));
  await advance(20 * SECOND);
  expect(shown.job("slow").isSilent).toBe(false);
  expect(shown.job("done").isSilent).toBe(false);
});

test("to become silent is a change that the page is told of, and touches no other job", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 2 }), progress("b", 10, { seq: 2 }));
  const { snapshots } = shown;
  const [told, b] = [snapshots.length, shown.job("b")];
  await advance(10 * SECOND);
  expect(snapshots).toHaveLength(told + 1); // once, not at each tick
  expect(shown.job("b")).toBe(b);
});

test("a page that cannot hear accuses nobody: not while it is disconnected", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.publish(P, { type: "progress", jobId: "a", jobType: "audio", progress: 10, nextWithin: 5 });
  await frame();
  gateway.isUp = false;
  gateway.closeAll();
  await advance(60 * SECOND);
  expect(watcher.job("a").isSilent).toBe(false);
});

test("after a reconnect, silence counts from when the page could hear again", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 5 }));
  for (let i = 0; i < 6; i++) await shown.drop();
  await advance(9 * SECOND);
  await shown.join(1);
  await advance(4.5 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
  await advance(2 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
});

test("a replayed event counts from when it arrived: when it was sent is not known", async () => {
  const shown = await page(1);
  await advance(3 * SECOND);
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 3 }));
  await advance(2.5 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
  await advance(2 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
});

test("a page whose gateway hears nothing accuses nobody, until a while after `live`", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 5 }), { type: "stale" });
  await advance(20 * SECOND);
  await shown.hear({ type: "live" });
  await advance(4.5 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
  await advance(2 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
});

test("`live` of a replica that does not serve the page yet gives no job more time", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 5 }), { type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  await advance(4 * SECOND);
  await shown.hear({ type: "stale" }, { type: "live" });
  await advance(2.5 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
});

test("a silent sentence makes its job silent, until it is heard of", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1, sentenceId: "s1", nextWithin: 2 }),
    progress("a", 10, { seq: 2, sentenceId: "s2" }),
  );
  await advance(4 * SECOND);
  expect(shown.job("a")).toMatchObject({
    isSilent: true,
    sentences: { s1: { isSilent: true }, s2: { isSilent: false } },
  });
  await shown.hear(progress("a", 30, { seq: 3, sentenceId: "s1" }));
  expect(shown.job("a")).toMatchObject({ isSilent: false, sentences: { s1: { isSilent: false } } });
});

test("a job that ended is not silent, though one of its sentences was", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, sentenceId: "s1", nextWithin: 2 }));
  await advance(4 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
  await shown.hear(complete("a", { seq: 2 }));
  expect(shown.job("a")).toMatchObject({ status: "complete", isTerminal: true, isSilent: false });
});

test("a job that ended by its own word is not silent, though one of its sentences never says that it ended", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, sentenceId: "s1", nextWithin: 3 }), complete("a", { seq: 2 }));
  await advance(10 * SECOND);
  expect(shown.job("a").isSilent).toBe(false);
});

test("a machine that slept could not hear: its jobs are not silent when it wakes", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 20 }));
  vi.setSystemTime(Date.now() + 3_600 * SECOND);
  await advance(1.1 * SECOND);
  expect(shown.last.pings).toBe(1); // it does not know yet whether its link lives
  expect(shown.job("a").isSilent).toBe(false);
});

test("a promise of less than a second, or of none, is kept to the same clock", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1, nextWithin: 0.5 }), progress("b", 10, { seq: 2, nextWithin: 0 }));
  await advance(2 * SECOND);
  expect(shown.job("a").isSilent).toBe(true);
  expect(shown.job("b").isSilent).toBe(true);
});
