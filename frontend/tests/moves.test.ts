import { expect, test } from "vitest";
import { FakeGateway } from "../src/testing.js";
import {
  advance,
  complete,
  expectSmooth,
  frame,
  moving,
  P,
  page,
  progress,
  Q,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

test("`going_away` opens the next connection, resumes there and only then leaves the old one", async () => {
  const shown = await moving();
  expect(shown.next.sent).toEqual([{ type: "subscribe", projectId: P, since: 9 }]);
  expect(shown.old.isLeft).toBe(false);
  shown.next.subscribed(9);
  expect(shown.old.isLeft).toBe(true);
  await advance(20_000);
  expect(shown.sockets).toHaveLength(2);
  expectSmooth(shown);
});

test.each([
  ["the beginning", 0, 2_000],
  ["the middle", 0.5, 6_000],
  ["the end", 0.999, 9_992],
])("the next connection is opened at a random moment of the window: %s", async (_name, random, expected) => {
  setRandom(random);
  const shown = await page();
  shown.last.say({ type: "going_away", reconnectIn: [2_000, 10_000] });
  await advance(expected - 50);
  expect(shown.sockets).toHaveLength(1);
  await advance(100);
  expect(shown.sockets).toHaveLength(2);
});

test("the page shows nothing of a move: it stays connected and current", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client();
  const watchers = [watch(client), watch(client, Q)];
  await frame();
  const [old] = gateway.connections;
  gateway.goAway([500, 500]);
  await advance(3_000);
  expect(gateway.attempts).toBe(2);
  expect(gateway.connections).toHaveLength(1);
  expect(gateway.connections[0]).not.toBe(old);
  for (const watcher of watchers) {
    expectSmooth(watcher);
    expect(watcher.now).toMatchObject({ status: "connected", error: null, staleSince: null, recovered: true });
  }
  expect(client.getStatus()).toBe("connected");
});

test("events published at any moment of a move arrive exactly once", async () => {
  setRandom(0.5);
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  const seqs: number[] = [];
  gateway.goAway([0, 10]);
  for (let i = 0; i < 40; i++) {
    seqs.push(gateway.publish(P, { type: "progress", jobId: `job_${i}`, jobType: "audio", progress: i })!);
    if (i % 3 === 0) await advance(1);
    else await Promise.resolve(); // in the midst of a handshake
  }
  seqs.push(gateway.publish(P, { type: "job_complete", jobId: "job_0", jobType: "audio", result: {} })!);
  await advance(1_000);
  expect(gateway.attempts).toBe(2);
  expect(watcher.events.map(({ seq }) => seq).sort()).toEqual(seqs.sort());
  expect(watcher.ends).toHaveLength(1);
  expectSmooth(watcher);
});

test("until the next connection has subscribed, the old one is heard; then only the next one is", async () => {
  const shown = await moving();
  shown.next.say(progress("a", 95, { seq: 19 })); // out of turn: not subscribed yet
  shown.old.say(progress("a", 20, { seq: 10 }));
  shown.next.subscribed(11);
  shown.next.say(progress("a", 20, { seq: 10 }), progress("a", 30, { seq: 11 }));
  shown.old.say(progress("a", 30, { seq: 11 }), complete("a", { seq: 12 }));
  shown.next.say(complete("a", { seq: 12 }), complete("b", { seq: 13 }));
  await frame();
  expect(shown.events.map(({ seq }) => seq)).toEqual([9, 10, 11, 12, 13]);
  expect(shown.ends).toHaveLength(2);
});

test("projects switch one by one, and the old connection is left after the last", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  const old = shown.last;
  old.subscribed(0, true, Q);
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  const next = shown.last;
  next.accept();
  next.subscribed(0);
  next.say(progress("a", 10, { seq: 1 }));
  old.say(progress("a", 10, { seq: 1 }), progress("x", 99), progress("b", 10, { seq: 1, projectId: Q }));
  await frame();
  expect(old.isLeft).toBe(false);
  expect(shown.events.map(({ jobId }) => jobId)).toEqual(["a"]); // from the next one only
  expect(other.events.map(({ jobId }) => jobId)).toEqual(["b"]); // from the old one still
  next.subscribed(1, true, Q);
  expect(old.isLeft).toBe(true);
  await frame();
  expectSmooth(shown);
  expectSmooth(other);
});

test("a late `subscribed` of the old connection takes no project back", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  const old = shown.last;
  old.subscribed(0, true, Q);
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  const next = shown.last;
  next.accept();
  next.subscribed(5);
  old.subscribed(4, false);
  next.say(progress("a", 10, { seq: 6 }));
  await frame();
  expect(shown.events).toHaveLength(1);
  expect(shown.now).toMatchObject({ isStale: false, recovered: true });
  next.subscribed(0, true, Q);
  expect(old.isLeft).toBe(true);
  expect(other.now.status).toBe("connected");
});

test("a project that is left during a move is not waited for", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  const old = shown.last;
  old.subscribed(0, true, Q);
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  shown.last.subscribed();
  expect(old.isLeft).toBe(false);
  other.leave();
  await advance(1_100);
  expect(old.isLeft).toBe(true);
  expect(shown.last.isLeft).toBe(false);
  expectSmooth(shown);
});

test("a project that is watched during a move is subscribed where it can be, and moves too", async () => {
  const shown = await moving();
  const other = watch(shown.client, Q);
  expect(shown.old.asked(Q)).toHaveLength(1);
  expect(shown.next.asked(Q)).toHaveLength(1);
  shown.old.subscribed(0, true, Q);
  await frame();
  expect(other.now.status).toBe("connected");
  shown.next.subscribed(9);
  expect(shown.old.isLeft).toBe(false);
  shown.next.subscribed(0, true, Q);
  expect(shown.old.isLeft).toBe(true);
});

test("a replica that says more than once that it goes away is left once", async () => {
  const shown = await page();
  const old = shown.last;
  for (let i = 0; i < 3; i++) {
    old.say({ type: "going_away", reconnectIn: [0, 0] });
    await frame();
  }
  shown.last.accept();
  old.say({ type: "going_away", reconnectIn: [0, 0] });
  await frame();
  shown.last.subscribed();
  await advance(10_000);
  expect(shown.sockets).toHaveLength(2);
});

test("a page moves on if the replica that it moved to drains as well", async () => {
  const shown = await moving();
  shown.next.subscribed(9);
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  expect(shown.sockets).toHaveLength(3);
  await shown.join(9);
  expect(shown.next.isLeft).toBe(true);
  expectSmooth(shown);
});

test("a page moves on also if the next replica says that it drains before the project is subscribed there", async () => {
  const shown = await moving();
  shown.next.say({ type: "going_away", reconnectIn: [0, 1_000] });
  shown.next.subscribed(9);
  await advance(5_000);
  expect(shown.sockets).toHaveLength(3);
});

test("a first connection that is told to move before it subscribed moves as well", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  gateway.isAnswering = false;
  await frame();
  gateway.isAnswering = true;
  gateway.goAway();
  await frame();
  expect(gateway.attempts).toBe(2);
  expect(watcher.now.status).toBe("connected");
  expect(gateway.connections).toHaveLength(1);
});
