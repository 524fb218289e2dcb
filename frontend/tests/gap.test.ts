import { expect, test } from "vitest";
import { FakeGateway } from "../src/testing.js";
import {
  advance,
  complete,
  failed,
  frame,
  P,
  type Page,
  page,
  progress,
  Q,
  scripted,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

const without = { type: "subscribe", projectId: P };

/** A page with two running jobs, `a` and `b`, and an ended one, that reconnects after a gap. */
async function withGap(): Promise<Page & { heardAt: number }> {
  const shown = await page();
  await shown.hear(complete("done", { seq: 1 }), progress("a", 10, { seq: 2 }), progress("b", 20, { seq: 3 }));
  const heardAt = Date.now() - 20;
  await shown.drop();
  await shown.join(500, false);
  return Object.assign(shown, { heardAt });
}

test("after a gap a page is connected, but stale until each job that ran has a new event", async () => {
  const shown = await withGap();
  const gap = { status: "connected", isStale: true, staleSince: shown.heardAt, recovered: false };
  expect(shown.now).toMatchObject({ ...gap, jobs: { a: { percent: 10 }, b: { percent: 20 } } });
  await shown.hear(progress("a", 30, { seq: 400 }), progress("new", 10, { seq: 450 }));
  expect(shown.now).toMatchObject(gap);
  await shown.hear(complete("b", { seq: 500 }));
  expect(shown.now).toMatchObject({ isStale: false, staleSince: null, recovered: false });
  expect(shown.ends.map(({ job }) => job.jobId)).toEqual(["done", "b"]);
});

test("after a gap nothing is subscribed again: the gateway replays what it remembers", async () => {
  const shown = await withGap();
  await shown.endReplay();
  await advance(20_000);
  expect(shown.last.sent).toEqual([{ ...without, since: 3 }, { type: "ping" }]);
  expect(shown.now).toMatchObject({ isStale: true, recovered: false });
});

test("a gateway that always answers `recovered: false` gets one subscribe on each connection", async () => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    let answered = 0;
    setInterval(() => {
      for (; answered < socket.asked().length; answered++) {
        socket.subscribed(9, false);
        socket.say(progress("a", 10, { seq: 9 }));
      }
    }, 10);
  });
  watch(client);
  await advance(20_000);
  expect(sockets).toHaveLength(1);
  expect(sockets[0]!.asked()).toHaveLength(1);
  for (let i = 0; i < 5; i++) {
    sockets.at(-1)!.end(1006);
    await advance(15_000);
    expect(sockets).toHaveLength(2 + i);
    expect(sockets.at(-1)!.asked()).toHaveLength(1);
  }
});

test("a second gap is reported too", async () => {
  const shown = await withGap();
  await shown.hear(progress("a", 30, { seq: 499 }), progress("b", 30, { seq: 500 }));
  expect(shown.now.isStale).toBe(false);
  await shown.drop();
  await shown.join(900, false);
  expect(shown.last.sent).toEqual([{ ...without, since: 500 }]);
  expect(shown.now).toMatchObject({ isStale: true, recovered: false });
});

test("an unsolicited second `subscribed` reports a gap too", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }), complete("b", { seq: 2 }));
  await advance(3_000);
  const at = Date.now();
  await shown.hear({ type: "subscribed", projectId: P, seq: 50, recovered: false });
  expect(shown.now).toMatchObject({ status: "connected", isStale: true, staleSince: at, recovered: false });
  await shown.hear(failed("a", { seq: 50 }));
  expect(shown.now).toMatchObject({ isStale: false, jobs: { a: { status: "failed" } } });
  expect(shown.last.sent).toEqual([without]);
});

test("after a second `subscribed`, what is replayed is marked as such, and what comes then is news", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }), { type: "subscribed", projectId: P, seq: 50, recovered: false });
  await shown.hear(complete("a", { seq: 50 }), complete("b", { seq: 51 }));
  expect(shown.events.map(({ isReplay }) => isReplay)).toEqual([false, true, false]);
});

test("a job that is replayed unchanged stays in doubt: the replica may replay what it knew before the loss", async () => {
  const shown = await withGap();
  await shown.hear(progress("a", 10, { seq: 2 }), progress("b", 20, { seq: 3 }));
  expect(shown.now).toMatchObject({ isStale: true });
  expect(shown.events).toHaveLength(3);
});

test("jobs that had ended are not waited for", async () => {
  const shown = await page();
  await shown.hear(complete("done", { seq: 1 }), failed("broke", { seq: 2 }), progress("a", 10, { seq: 3 }));
  await shown.drop();
  await shown.join(9, false);
  await shown.hear(progress("a", 20, { seq: 9 }));
  expect(shown.now.isStale).toBe(false);
});

test("each running sentence is waited for, and none that ended", async () => {
  const shown = await page();
  await shown.hear(
    complete("a", { seq: 1, sentenceId: "s1" }),
    progress("a", 10, { seq: 2, sentenceId: "s2" }),
    progress("a", 10, { seq: 3, sentenceId: "s3" }),
  );
  await shown.drop();
  await shown.join(9, false);
  await shown.hear(progress("a", 20, { seq: 8, sentenceId: "s2" }));
  expect(shown.now.isStale).toBe(true);
  await shown.hear(complete("a", { seq: 9, sentenceId: "s3" }));
  expect(shown.now.isStale).toBe(false);
});

test("a connection that is lost in the middle of a gap leaves the doubts as they are", async () => {
  const shown = await withGap();
  await shown.hear(progress("a", 30, { seq: 400 }));
  await shown.drop();
  await shown.join(500, true);
  expect(shown.now).toMatchObject({ isStale: true, staleSince: shown.heardAt });
  await shown.hear(progress("a", 30, { seq: 400 }), progress("b", 30, { seq: 500 }));
  expect(shown.now.isStale).toBe(false);
});

test("a connection that is lost before anything of a gap arrived asks for all of it again", async () => {
  const shown = await withGap();
  await shown.drop();
  await shown.join(500, false);
  expect(shown.last.sent).toEqual([{ ...without, since: 3 }]);
  expect(shown.now).toMatchObject({ isStale: true, recovered: false });
  await shown.hear(progress("a", 30, { seq: 499 }), progress("b", 30, { seq: 500 }));
  expect(shown.now.isStale).toBe(false);
});

test("a job whose last event had no seq is in doubt after a reconnect: its end may not be replayed", async () => {
  const shown = await page();
  await shown.hear(progress("plain", 10), progress("a", 10, { seq: 5 }));
  expect(shown.now.isStale).toBe(false);
  await shown.drop();
  await shown.join(5, true);
  expect(shown.now).toMatchObject({ status: "connected", isStale: true, recovered: true });
  expect(shown.last.sent).toHaveLength(1); // a second subscribe would not help
  await shown.hear(complete("plain"));
  expect(shown.now).toMatchObject({ isStale: false });
});

test("a job without seq that had an event since is not doubted again by the replay", async () => {
  const shown = await page();
  await shown.hear(progress("plain", 10), { type: "subscribed", projectId: P, seq: 9, recovered: false });
  await shown.hear(progress("plain", 20));
  await shown.endReplay();
  expect(shown.now.isStale).toBe(false);
  await shown.hear({ type: "subscribed", projectId: P, seq: 9, recovered: true });
  await shown.endReplay();
  expect(shown.now.isStale).toBe(false);
});

test("jobs whose events have a seq are not in doubt after a reconnect that recovered", async () => {
  const shown = await page();
  await shown.hear(complete("plain"), progress("a", 10, { seq: 5 }), progress("b", 10, { seq: 6 }));
  await shown.drop();
  await shown.join(6, true);
  expect(shown.now).toMatchObject({ isStale: false, staleSince: null, recovered: true });
});

test("a gap of one project does not affect another one", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.last.subscribed(0, true, Q);
  await shown.hear(progress("a", 1, { seq: 1 }), progress("a", 1, { seq: 1, projectId: Q }));
  await shown.hear({ type: "subscribed", projectId: P, seq: 9, recovered: false });
  expect(shown.now).toMatchObject({ isStale: true, recovered: false });
  expect(other.now).toMatchObject({ isStale: false, recovered: true });
  expect(shown.last.asked(Q)).toHaveLength(1);
});

test("in a move to a replica that does not recover, the page is stale until it is current again", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }), { type: "going_away", reconnectIn: [0, 0] });
  await shown.join(9, false);
  expect(shown.sockets[0]!.isLeft).toBe(true);
  expect(shown.now).toMatchObject({ status: "connected", isStale: true, recovered: false });
  await shown.hear(progress("a", 20, { seq: 9 }));
  expect(shown.now.isStale).toBe(false);
});

test("a Redis that was emptied while the page was away: new events of its jobs make them current", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.publish(P, { type: "progress", jobId: "a", jobType: "audio", progress: 10 });
  await frame();
  gateway.closeAll();
  gateway.forget();
  await advance(2_000);
  expect(watcher.now).toMatchObject({ status: "connected", isStale: true, recovered: false });
  gateway.publish(P, { type: "job_complete", jobId: "a", jobType: "audio", result: {} });
  await frame();
  expect(watcher.now).toMatchObject({ isStale: false, jobs: { a: { status: "complete" } } });
  expect(watcher.ends).toHaveLength(1);
});

test("a gap in which nothing ran makes nothing stale; only `recovered` reports it", async () => {
  const shown = await page();
  await shown.hear(complete("done", { seq: 1 }));
  await shown.drop();
  await shown.join(500, false);
  await shown.endReplay();
  expect(shown.now).toMatchObject({ isStale: false, recovered: false });
});

test("jobs that were forgotten, because there were too many, are not waited for", async () => {
  const shown = await page();
  await shown.hear(progress("first", 10, { seq: 1, nextWithin: 1 }), progress("second", 10, { seq: 2, nextWithin: 1 }));
  await advance(3_000); // both are silent, so others come first
  await shown.drop();
  await shown.join(9_000, false);
  for (let i = 0; i < 1_005; i++) shown.last.say(progress(`job_${i}`, 10, { seq: 100 + i }));
  await shown.endReplay();
  expect(Object.keys(shown.now.jobs)).not.toContain("second");
  expect(shown.now.isStale).toBe(false);
});
