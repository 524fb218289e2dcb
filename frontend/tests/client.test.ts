import { expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import {
  advance,
  complete,
  frame,
  onPage,
  P,
  page,
  progress,
  Q,
  scripted,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

test("several projects share one socket", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client();
  const watchers = [P, Q, "project_3"].map((id) => watch(client, id));
  await frame();
  expect(gateway.attempts).toBe(1);
  expect([...gateway.connections[0]!.projects]).toEqual([P, Q, "project_3"]);
  const late = watch(client, "project_4");
  await frame();
  expect(gateway.attempts).toBe(1);
  expect([...watchers, late].map(({ now }) => now.status)).toEqual(Array(4).fill("connected"));
});

test("many listeners of one project share one subscription, and each hears everything", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client();
  const watchers = Array.from({ length: 20 }, () => watch(client));
  await frame();
  const late = watch(client);
  await frame();
  gateway.publish(P, { type: "job_complete", jobId: "a", jobType: "audio", result: {} });
  await frame();
  expect(gateway.connections[0]!.received).toEqual([{ type: "subscribe", projectId: P }]);
  for (const { events, ends, now } of [...watchers, late]) {
    expect([events.length, ends.length, now.status]).toEqual([1, 1, "connected"]);
    expect(now).toBe(late.now);
  }
});

test("events of one project reach no other", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.last.subscribed(0, true, Q);
  await shown.hear(progress("a", 10, { projectId: Q, seq: 1 }));
  expect(shown.events).toEqual([]);
  expect(shown.now.jobs).toEqual({});
  expect(other.events).toHaveLength(1);
});

test("a listener that comes later sees at once what is known of the project", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1 }));
  expect(watch(shown.client).now).toBe(shown.now);
});

test("a page that leaves and comes back within a second sends nothing and misses nothing", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 1 }));
  shown.watcher.leave();
  await advance(400);
  shown.last.say(progress("a", 50, { seq: 2 })); // nobody listens, but the event still counts
  await advance(500);
  const again = watch(shown.client);
  expect(again.now.jobs).toMatchObject({ a: { percent: 50 } });
  await advance(5_000);
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
  expect(shown.sockets).toHaveLength(1);
  expect(again.now.status).toBe("connected");
});

test("React's double mount is one socket and one subscription", async () => {
  const { client, sockets, last } = await page();
  watch(client).leave();
  watch(client);
  await advance(2_000);
  expect(sockets).toHaveLength(1);
  expect(last.sent).toHaveLength(1);
});

test("each leave starts the linger anew", async () => {
  const shown = await page();
  shown.watcher.leave();
  await advance(700);
  const again = watch(shown.client);
  await advance(100);
  again.leave();
  await advance(900);
  expect(shown.last.sent).toHaveLength(1);
  await advance(200);
  expect(shown.last.sent.at(-1)).toEqual({ type: "unsubscribe", projectId: P });
});

test("a second after the last listener left, the project is unsubscribed, and the others go on", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.last.subscribed(0, true, Q);
  other.leave();
  await advance(950);
  expect(shown.last.sent.map(({ type }) => type)).toEqual(["subscribe", "subscribe"]);
  await advance(100);
  expect(shown.last.sent.at(-1)).toEqual({ type: "unsubscribe", projectId: Q });
  expect(shown.last.isLeft).toBe(false);
  await shown.hear({ type: "unsubscribed", projectId: Q }, progress("a", 40, { seq: 1 }));
  expect(shown.now).toMatchObject({ status: "connected", jobs: { a: { percent: 40 } } });
});

test("a listener that leaves takes the project from no other one", async () => {
  const shown = await page();
  const other = watch(shown.client);
  shown.watcher.leave();
  shown.watcher.leave(); // twice, by mistake
  await advance(3_000);
  await shown.hear(complete("a", { seq: 1 }));
  expect(shown.events).toEqual([]);
  expect(other.events).toHaveLength(1);
  expect(shown.last.sent).toHaveLength(1);
});

test("when nobody watches anything, the socket is closed and nothing is left: no timer, no listener", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.watcher.leave();
  other.leave();
  await advance(1_100);
  expect(shown.last.isLeft).toBe(true);
  await advance(1_000);
  expect(vi.getTimerCount()).toBe(0);
  onPage("online");
  shown.client.reconnect();
  await advance(60_000);
  expect(shown.sockets).toHaveLength(1);
});

test("a page that leaves while it waits to retry, or while it connects, does not connect again", async () => {
  setRandom(0.999);
  const shown = await page();
  for (let i = 0; i < 4; i++) await shown.drop(); // the next wait is of 16 s
  shown.last.end(1006);
  const { length } = shown.sockets;
  shown.watcher.leave();
  await advance(60_000);
  expect(shown.sockets).toHaveLength(length);
  expect(vi.getTimerCount()).toBe(0);

  const again = watch(shown.client);
  expect(shown.sockets).toHaveLength(length + 1);
  again.leave();
  await advance(1_100);
  expect(shown.last.isLeft).toBe(true);
  await advance(60_000);
  expect(shown.sockets).toHaveLength(length + 1);
});

test("a page that comes back after the linger starts afresh: the old data is gone, a new socket is opened", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 7 }));
  shown.watcher.leave();
  await advance(1_200);
  const again = watch(shown.client);
  expect(again.now).toMatchObject({ status: "connecting", jobs: {}, lastEvent: null });
  await frame();
  expect(shown.sockets).toHaveLength(2);
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
});

test("late events of a project that was left change nothing", async () => {
  const shown = await page();
  const other = watch(shown.client, Q);
  shown.last.subscribed(0, true, Q);
  other.leave();
  await advance(1_100);
  await shown.hear(progress("b", 10, { projectId: Q, seq: 1 }), { type: "subscribed", projectId: Q, seq: 1 });
  expect(other.events).toEqual([]);
  const again = watch(shown.client, Q);
  await frame();
  expect(again.now).toMatchObject({ status: "connecting", jobs: {} });
});

test("two clients have a socket each", async () => {
  const gateway = new FakeGateway();
  watch(gateway.client());
  watch(gateway.client());
  await frame();
  expect(gateway.connections).toHaveLength(2);
});

test("a client that nobody uses opens no socket", async () => {
  const { client, sockets } = scripted();
  client.project(P).getSnapshot();
  client.subscribe(() => {});
  client.reconnect();
  await advance(30_000);
  expect(sockets).toHaveLength(0);
});

// `reconnect`

test("`reconnect` does not wait for the back-off", async () => {
  const shown = await page();
  shown.last.end(1006);
  await frame();
  shown.client.reconnect();
  expect(shown.sockets).toHaveLength(2);
  await shown.join();
  await advance(25_000); // nor is there a second attempt when the back-off would have ended
  expect(shown.sockets).toHaveLength(2);
});

test("`reconnect` keeps a connection that works until the new one has taken over", async () => {
  const shown = await page();
  await shown.hear(progress("a", 40, { seq: 3 }));
  const [old] = shown.sockets;
  shown.client.reconnect();
  shown.client.reconnect(); // one is enough
  expect(shown.sockets).toHaveLength(2);
  shown.last.accept();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P, since: 3 }]);
  expect(old!.isLeft).toBe(false);
  shown.last.subscribed(3);
  expect(old!.isLeft).toBe(true);
  await frame();
  expect(shown.snapshots.filter(({ status, isStale }) => status !== "connected" || isStale)).toEqual([]);
});
