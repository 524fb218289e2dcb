import { expect, test } from "vitest";
import {
  advance,
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

test("if the next connection fails, the old one goes on and another is tried, with back-off", async () => {
  setRandom(0.999);
  const shown = await page();
  const old = shown.last;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.end(1006);
  await shown.hear(); // drawn
  old.say(progress("a", 10, { seq: 1 }));
  await advance(900);
  expect(shown.sockets).toHaveLength(2);
  await advance(100);
  expect(shown.sockets).toHaveLength(3);
  shown.last.end(1006);
  await advance(1_900);
  expect(shown.sockets).toHaveLength(3);
  await advance(200);
  expect(shown.sockets).toHaveLength(4);
  expect(old.isLeft).toBe(false);
  shown.last.accept();
  shown.last.subscribed(1);
  expect(old.isLeft).toBe(true);
  await frame();
  expect(shown.events).toHaveLength(1);
  expectSmooth(shown);
  expect(shown.now).toMatchObject({ error: null, retryAt: null });
});

test("a next connection that does not open within 10 s is given up, and the old one goes on", async () => {
  const shown = await page();
  const [old] = shown.sockets;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  await advance(9_000);
  old!.say({ type: "pong" });
  await advance(2_100);
  expect(shown.sockets[1]!.isLeft).toBe(true);
  expect(shown.sockets).toHaveLength(3);
  expect(old!.isLeft).toBe(false);
  expectSmooth(shown);
});

test("if the next connection is lost in the middle, what had moved goes back to the old one", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  const old = shown.last;
  old.subscribed(0, true, Q);
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  shown.last.subscribed(0);
  shown.last.say(progress("a", 10, { seq: 4 }));
  shown.last.end(1006);
  expect(old.sent.at(-1)).toEqual({ type: "subscribe", projectId: P, since: 4 });
  old.subscribed(5);
  old.say(progress("a", 20, { seq: 5 }));
  await frame();
  expect(shown.now).toMatchObject({ status: "connected", isStale: false });
  expect(shown.events.map(({ seq }) => seq)).toEqual([4, 5]);
  expectSmooth(other);
});

test("if the old connection ends before the next one has subscribed, the next one carries on alone", async () => {
  const shown = await moving();
  shown.old.end(1012);
  await frame();
  expect(shown.now).toMatchObject({ status: "connecting", isStale: true });
  expect(shown.client.getStatus()).toBe("connected"); // the connection is; the project not yet
  shown.next.subscribed(9);
  await frame();
  expect(shown.now).toMatchObject({ status: "connected", isStale: false, error: null });
  await advance(25_000);
  expect(shown.sockets).toHaveLength(2);
});

test("if the old connection ends while the next one opens, no third is made", async () => {
  const shown = await page();
  const old = shown.last;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  old.end(1012);
  await advance(5_000);
  expect(shown.sockets).toHaveLength(2);
  await shown.join();
  expect(shown.now.status).toBe("connected");
});

test("a replica that ends before its window opens is replaced like any lost one", async () => {
  const shown = await page();
  shown.last.say({ type: "going_away", reconnectIn: [20_000, 20_000] });
  shown.last.end(1012);
  await advance(1_100);
  await shown.join();
  expect(shown.sockets).toHaveLength(2);
  await advance(24_000);
  expect(shown.sockets).toHaveLength(2);
});

test("a project that the next connection refuses, and that the old one never had, does not delay the move", async () => {
  const shown = await moving();
  watch(shown.client, Q);
  shown.next.subscribed(9);
  expect(shown.old.isLeft).toBe(false);
  shown.next.say({ type: "error", code: "unavailable", message: "No", projectId: Q });
  expect(shown.old.isLeft).toBe(true);
  expect(shown.next.isLeft).toBe(false);
  await frame();
  expectSmooth(shown);
});
