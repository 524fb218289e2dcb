import { expect, test } from "vitest";
import { valuesOf } from "../src/core.js";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, failed, frame, P, page, progress, Q, setRandom, watch, withFakeTime } from "./support.js";

withFakeTime();

test("a fresh project is subscribed without `since`", async () => {
  const shown = await page();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
});

test("after a reconnect the project is resumed from the last seq that arrived", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 7 }), progress("b", 10, { seq: 9 }), progress("a", 20));
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 9 }]);
});

test("a replayed event moves the cursor like any other", async () => {
  const shown = await page(9);
  await shown.hear(progress("a", 10, { seq: 8 }), complete("b", { seq: 9 }));
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 9 }]);
});

test("what was promised but did not arrive is asked for again: `subscribed.seq` is no cursor while a replay is on its way", async () => {
  const shown = await page(9);
  await shown.hear(progress("a", 10, { seq: 5 })); // and 6 to 9 are lost with the connection: half a replay is none
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
});

test.each([
  ["a fresh page", false],
  ["a page that knew something", true],
])("%s that is subscribed and lost before anything arrived asks for the same again", async (_name, knew) => {
  const shown = await page();
  if (knew) await shown.hear(progress("a", 10, { seq: 3 }));
  await shown.drop();
  await shown.join(9);
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, ...(knew ? { since: 3 } : {}) }]);
});

test("the last seq that arrived counts, not the highest: after a failover seq may fall back", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 900 }), progress("b", 10, { seq: 500 }));
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 500 }]);
});

test("an event that was dropped as old has arrived all the same", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 900 }), progress("a", 20, { seq: 500 }));
  expect(shown.job("a").percent).toBe(10);
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 500 }]);
});

test("each project has its own cursor", async () => {
  const shown = await page();
  watch(shown.client, Q);
  watch(shown.client, "project_3");
  shown.last.subscribed(0, true, Q);
  await shown.hear(progress("a", 10, { seq: 7 }), progress("a", 10, { seq: 4, projectId: Q }));
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([
    { type: "subscribe", projectId: P, since: 7 },
    { type: "subscribe", projectId: Q, since: 4 },
    { type: "subscribe", projectId: "project_3" },
  ]);
});

test("a connection that fails before it subscribed loses no cursor", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 7 }));
  for (let i = 0; i < 3; i++) await shown.drop();
  shown.last.accept();
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 7 }]);
});

test("events of a connection before it is subscribed are not taken: they would move the cursor past what was missed", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  await shown.drop();
  shown.last.accept();
  await shown.hear(progress("a", 90, { seq: 9 }));
  expect(shown.events).toHaveLength(1);
  await shown.drop();
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 1 }]);
});

test("what a socket says after it was left is not heard", async () => {
  const shown = await page();
  const [old] = shown.sockets;
  await shown.hear(progress("a", 10, { seq: 1 }));
  await advance(30_100); // dead, it seems
  expect(old!.isLeft).toBe(true);
  old!.say(progress("a", 90, { seq: 9 }), { type: "subscribed", projectId: P, seq: 9, recovered: true });
  old!.end(4401); // nor is the way it ends
  await advance(1_100);
  expect(shown.events).toHaveLength(1);
  expect(shown.sockets).toHaveLength(2);
  expect(shown.now.status).toBe("connecting");
});

test("jobs stay shown while the connection is lost, and go on where they are when it is back", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }), progress("b", 20, { seq: 2 }));
  const [a] = [shown.job("a")];
  await shown.drop();
  expect(shown.now.jobs).toMatchObject({ a: { percent: 10 }, b: { percent: 20 } });
  await shown.join(3);
  await shown.hear(failed("b", { seq: 3 }));
  expect(shown.job("a")).toBe(a);
  expect(shown.job("b").status).toBe("failed");
  expect(shown.now).toMatchObject({ isStale: false, recovered: true });
});

test("over thirty lost connections, each event arrives at most once, each end exactly once, and nothing is out of date", async () => {
  setRandom(0.3);
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  for (let round = 0; round < 30; round++) {
    const jobId = `job_${round}`;
    gateway.publish(P, { type: "progress", jobId, jobType: "video", progress: 10 });
    if (round % 3) await advance(7);
    gateway.closeAll(round % 2 ? 1006 : 1012);
    gateway.publish(P, { type: "progress", jobId, jobType: "video", progress: 60 });
    await advance((round * 137) % 900);
    gateway.publish(P, { type: "job_complete", jobId, jobType: "video", result: {} });
    await advance(round % 4 ? 15_000 : 100);
  }
  await advance(30_000);
  expect(gateway.attempts).toBeGreaterThan(20);
  expect(watcher.now).toMatchObject({ status: "connected", isStale: false, recovered: true });
  expect(valuesOf(watcher.now.jobs).map(({ status }) => status)).toEqual(Array(30).fill("complete"));
  const seqs = watcher.events.map(({ seq }) => seq!);
  expect(new Set(seqs).size).toBe(seqs.length);
  expect(watcher.ends.map(({ job }) => job.jobId)).toEqual(Array.from({ length: 30 }, (_, i) => `job_${i}`));
});
