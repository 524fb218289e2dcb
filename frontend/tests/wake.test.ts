import { expect, test, vi } from "vitest";
import {
  advance,
  frame,
  onPage,
  page,
  progress,
  scripted,
  setHidden,
  setOnline,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

const WAKES = ["online", "pageshow", "visibilitychange"];

/** The machine sleeps: time passes, but no timer fires. */
const sleep = (ms: number): void => void vi.setSystemTime(Date.now() + ms);

test.each(WAKES)("`%s` asks the link at once whether it lives: what looks open may be long dead", async (type) => {
  const shown = await page();
  await advance(5_000);
  onPage(type);
  expect(shown.last.pings).toBe(1);
  await advance(2_900);
  expect(shown.last.isLeft).toBe(false);
  await advance(150);
  expect(shown.sockets[0]!.isLeft).toBe(true);
  expect(shown.now).toMatchObject({ status: "disconnected", isStale: true });
  await advance(1_000);
  expect(shown.sockets).toHaveLength(2);
});

test.each([
  ["a pong", { type: "pong" }],
  ["an event", progress("a", 1, { seq: 1 })],
])("a link that answers by %s is kept", async (_name, message) => {
  const shown = await page();
  onPage("pageshow");
  await advance(2_000);
  await shown.hear(message);
  await advance(20_000);
  expect(shown.sockets).toHaveLength(1);
  expect(shown.last.isLeft).toBe(false);
  expect(shown.now.status).toBe("connected");
});

test("a tab that is hidden asks nothing; one that is shown does", async () => {
  const shown = await page();
  setHidden(true);
  onPage("visibilitychange");
  expect(shown.last.pings).toBe(0);
  await advance(2_000);
  setHidden(false);
  onPage("visibilitychange");
  expect(shown.last.pings).toBe(1);
});

test("the link is asked at most once a second, however much happens", async () => {
  const shown = await page();
  for (let i = 0; i < 3; i++) for (const type of WAKES) onPage(type);
  await advance(900);
  onPage("online");
  expect(shown.last.pings).toBe(1);
  await shown.hear({ type: "pong" });
  await advance(100);
  onPage("online");
  expect(shown.last.pings).toBe(2);
});

test("waking again does not put off the end of a link that does not answer", async () => {
  const shown = await page();
  for (let i = 0; i < 3; i++) {
    onPage("pageshow");
    await advance(1_010);
  }
  expect(shown.sockets[0]!.isLeft).toBe(true);
});

test("waking does not put off the end of a link that was asked for a sign of life already", async () => {
  const shown = await page();
  await advance(25_000 + 4_000);
  onPage("pageshow");
  await advance(1_050);
  expect(shown.sockets[0]!.isLeft).toBe(true);
});

test.each([
  ["forward, after a sleep", 3_600_000],
  ["back", -3_600_000],
])("a clock that jumps %s asks the link at once", async (_name, ms) => {
  const shown = await page();
  await advance(3_000);
  sleep(ms);
  await advance(1_100);
  expect(shown.last.pings).toBe(1);
  await advance(3_100);
  expect(shown.sockets[0]!.isLeft).toBe(true);
});

test("a clock that goes on as it should asks nothing", async () => {
  const shown = await page();
  await advance(24_000);
  expect(shown.last.pings).toBe(0);
});

test.each(WAKES)("`%s` does not wait for the back-off", async (type) => {
  setRandom(0.999);
  const shown = await page();
  for (let i = 0; i < 6; i++) await shown.drop(); // the next wait is of 20 s
  shown.last.end(1006);
  await advance(2_000);
  const { length } = shown.sockets;
  onPage(type);
  expect(shown.sockets).toHaveLength(length + 1);
  await frame();
  expect(shown.now).toMatchObject({ status: "connecting", retryAt: null });
  await shown.join();
  await advance(20_000); // and the wait that was cut short is over
  expect(shown.sockets).toHaveLength(length + 1);
});

test("a sleep does not wait for the back-off either", async () => {
  setRandom(0.999);
  const shown = await page();
  for (let i = 0; i < 6; i++) await shown.drop();
  shown.last.end(1006);
  await advance(2_000);
  const { length } = shown.sockets;
  sleep(60_000);
  await advance(1_100);
  expect(shown.sockets).toHaveLength(length + 1);
});

test("connections are not tried more than once a second by waking", async () => {
  const shown = await page();
  shown.last.end(1006);
  await advance(100);
  for (let i = 0; i < 5; i++) {
    onPage("online");
    shown.last.end(1006);
  }
  expect(shown.sockets).toHaveLength(2);
});

test("waking too soon after the last time is not forgotten: it comes a moment later", async () => {
  setRandom(0.999);
  const shown = await page();
  for (let i = 0; i < 6; i++) await shown.drop(); // the next wait is of 20 s
  shown.last.end(1006);
  await advance(2_000);
  onPage("visibilitychange");
  shown.last.end(1006); // there is no network yet
  await advance(500);
  const { length } = shown.sockets;
  onPage("online");
  await advance(2_000);
  expect(shown.sockets).toHaveLength(length + 1);
  await advance(5_000); // once
  expect(shown.sockets).toHaveLength(length + 1);
});

test("waking does not shorten the time that a connection has to open", async () => {
  const { client, sockets } = scripted();
  watch(client);
  await advance(2_000);
  onPage("pageshow");
  await advance(7_800);
  expect(sockets.map(({ isLeft }) => isLeft)).toEqual([false]);
  await advance(300);
  expect(sockets[0]!.isLeft).toBe(true);
});

test("in a move, waking asks both connections", async () => {
  const shown = await page();
  const [old] = shown.sockets;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  onPage("pageshow");
  expect([old!.pings, shown.last.pings]).toEqual([1, 1]);
});

test("after a sleep, what was missed is caught up on a new link", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 4 }));
  sleep(8 * 3_600_000);
  await advance(1_000 + 3_000 + 1_100);
  expect(shown.sockets).toHaveLength(2);
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: "project_1", since: 4 }]);
});

test("`offline` ends the connection at once, and the page knows since when it was right", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  const heardAt = Date.now() - 20;
  await advance(2_000);
  setOnline(false);
  onPage("offline");
  expect(shown.last.isLeft).toBe(true);
  await frame();
  expect(shown.now).toMatchObject({ status: "disconnected", isStale: true, staleSince: heardAt });
  expect(shown.now.error).not.toBeNull();
});

test("`offline` counts as one failure, also in the midst of a move", async () => {
  setRandom(0.999);
  const shown = await page();
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  onPage("offline");
  await frame();
  expect(shown.sockets.map(({ isLeft }) => isLeft)).toEqual([true, true]);
  expect(shown.now.retryAt! - Date.now()).toBeLessThanOrEqual(1_000);
});
