import { expect, test } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, frame, P, page, progress, Q, scripted, watch, withFakeTime } from "./support.js";

withFakeTime();

test("before the first `subscribed` a page is stale, but was never right, so there is no time", async () => {
  const { client, last } = ((gateway) => ({ client: watch(gateway.client), last: gateway.last }))(scripted());
  await frame();
  expect(client.now).toMatchObject({ isStale: true, staleSince: null });
  last.accept();
  await frame();
  expect(client.now).toMatchObject({ isStale: true, staleSince: null });
  last.subscribed();
  await frame();
  expect(client.now).toMatchObject({ isStale: false, staleSince: null });
});

test("a page whose first connections fail was never right", async () => {
  const { client } = scripted({}, (socket) => socket.end(1006));
  const watcher = watch(client);
  await advance(10_000);
  expect(watcher.now).toMatchObject({ isStale: true, staleSince: null });
});

test("a page that loses its connection is stale since it last heard something, until it is subscribed again", async () => {
  const shown = await page();
  await advance(3_000);
  await shown.hear(progress("a", 10, { seq: 1 }));
  const heardAt = Date.now() - 20;
  await advance(4_000);
  shown.last.end(1006);
  await frame();
  expect(shown.now).toMatchObject({ isStale: true, staleSince: heardAt });
  for (let i = 0; i < 3; i++) await shown.drop();
  shown.last.accept();
  await frame();
  expect(shown.now).toMatchObject({ isStale: true, staleSince: heardAt }); // attempts make nothing right
  shown.last.subscribed(1);
  await frame();
  expect(shown.now).toMatchObject({ isStale: false, staleSince: null });
});

test("a page that was given up is stale", async () => {
  const shown = await page();
  shown.last.end(4401);
  await advance(60_000);
  expect(shown.now).toMatchObject({ isStale: true, staleSince: expect.any(Number) });
});

test("`stale` marks what is shown as old since then; `live` takes it back", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.last.subscribed(0, true, Q);
  await advance(3_000);
  const at = Date.now();
  await shown.hear({ type: "stale" });
  for (const { now } of [shown, other]) {
    expect(now).toMatchObject({ isStale: true, staleSince: at, status: "connected" });
  }
  await advance(5_000);
  await shown.hear(progress("a", 10, { seq: 1 })); // some of what was missed, but not all of it
  expect(shown.now).toMatchObject({ isStale: true, staleSince: at, jobs: { a: { percent: 10 } } });
  await shown.hear({ type: "live" });
  for (const { now } of [shown, other]) expect(now).toMatchObject({ isStale: false, staleSince: null });
});

test("`stale` twice is stale since the first", async () => {
  const shown = await page();
  const at = Date.now();
  await shown.hear({ type: "stale" });
  await advance(3_000);
  await shown.hear({ type: "stale" });
  expect(shown.now.staleSince).toBe(at);
});

test("a connection that is told `stale` before it is subscribed is stale until `live`", async () => {
  const gateway = new FakeGateway();
  gateway.setStale(true);
  const watcher = watch(gateway.client());
  await frame();
  expect(watcher.now).toMatchObject({ status: "connected", isStale: true, staleSince: null });
  gateway.setStale(false);
  await frame();
  expect(watcher.now).toMatchObject({ isStale: false });
});

test("`live` is no `subscribed`: it makes only those current who are subscribed", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  await shown.hear({ type: "stale" }, { type: "live" });
  expect(shown.now.isStale).toBe(false);
  expect(other.now).toMatchObject({ isStale: true, status: "connecting" });
});

test("the staleness of one connection is not that of the next", async () => {
  const shown = await page();
  await shown.hear({ type: "stale" });
  await shown.drop();
  await shown.join();
  expect(shown.now).toMatchObject({ isStale: false, staleSince: null });
});

test("a page that loses a stale connection is stale since the `stale`", async () => {
  const shown = await page();
  const at = Date.now();
  await shown.hear({ type: "stale" });
  await advance(5_000);
  await shown.hear({ type: "pong" });
  shown.last.end(1006);
  await frame();
  expect(shown.now.staleSince).toBe(at);
});

test("in a move, a replica that lost Redis makes nobody stale whom another one serves", async () => {
  const shown = await page();
  const [old] = shown.sockets;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  await shown.hear({ type: "stale" });
  expect(shown.now.isStale).toBe(false);
  shown.last.say({ type: "live" });
  shown.last.subscribed();
  old!.say({ type: "stale" });
  await frame();
  expect(shown.now.isStale).toBe(false);
});

test("what is stale is still shown, and ends are still told", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }), { type: "stale" }, complete("a", { seq: 2 }));
  expect(shown.ends).toHaveLength(1);
  expect(shown.now).toMatchObject({ isStale: true, jobs: { a: { status: "complete" } } });
  expect(shown.now.error).toBeNull();
  expect(shown.last.asked(P)).toHaveLength(1);
});
