import { expect, test, vi } from "vitest";
import { createProgressClient } from "../src/core.js";
import { FakeGateway } from "../src/testing.js";
import { advance, frame, onPage, P, page, Q, scripted, setOnline, setRandom, watch, withFakeTime } from "./support.js";

withFakeTime();

test("a page is connecting while the socket opens and until the project is subscribed, not only until it opens", async () => {
  const { client, last } = scriptedAndWatched();
  await frame();
  expect(last().url).toBe("ws://gateway.test/ws");
  expect(client.now.status).toBe("connecting");
  last().accept();
  await frame();
  expect(client.now.status).toBe("connecting");
  last().subscribed();
  await frame();
  expect(client.now.status).toBe("connected");
  expect(client.now.error).toBeNull();
});

function scriptedAndWatched() {
  const gateway = scripted();
  return { gateway, client: watch(gateway.client), last: () => gateway.last };
}

test("a project is connecting before anybody was told anything, so that the first paint is not an error", () => {
  const { client } = scripted();
  expect(client.project(P).getSnapshot()).toMatchObject({
    status: "connecting",
    isStale: true,
    staleSince: null,
    lastEvent: null,
    events: [],
    jobs: {},
    error: null,
  });
});

test("each project is connected by its own `subscribed`", async () => {
  const { client, last } = await page();
  const other = watch(client, Q);
  await frame();
  expect(other.now.status).toBe("connecting");
  last.subscribed(0, true, Q);
  await frame();
  expect(other.now.status).toBe("connected");
});

test("a page is disconnected while it waits to retry, and says until when; connecting during the attempt", async () => {
  setRandom(0.5);
  const shown = await page();
  shown.last.end(1006);
  await frame();
  expect(shown.now).toMatchObject({ status: "disconnected", error: { code: 1006 }, isStale: true });
  expect(shown.now.retryAt).toBeGreaterThan(Date.now());
  await advance(shown.now.retryAt! - Date.now() + 20);
  expect(shown.sockets).toHaveLength(2);
  expect(shown.now).toMatchObject({ status: "connecting", retryAt: null });
  await shown.join();
  expect(shown.now).toMatchObject({ status: "connected", error: null, retryAt: null, isStale: false });
});

test("`offline` disconnects at once, without waiting for the socket to notice; `online` brings the page back", async () => {
  const shown = await page();
  setOnline(false);
  onPage("offline");
  await frame();
  expect(shown.now).toMatchObject({ status: "disconnected", isStale: true });
  expect(shown.sockets[0]!.isLeft).toBe(true);
  await advance(300);
  setOnline(true);
  onPage("online"); // before the back-off has ended
  expect(shown.sockets).toHaveLength(2);
  await frame();
  expect(shown.now.status).toBe("connecting");
  await shown.join();
  expect(shown.now.status).toBe("connected");
});

test("a page without a network stays disconnected, whatever is tried meanwhile", async () => {
  const shown = await page();
  setOnline(false);
  onPage("offline");
  await shown.drop();
  await advance(2_000);
  expect(shown.sockets.length).toBeGreaterThan(1);
  expect(new Set(shown.snapshots.slice(1).map(({ status }) => status))).toEqual(new Set(["disconnected"]));
  expect(shown.client.getStatus()).toBe("disconnected");
});

test("`online` makes a page connecting if an attempt is under way already", async () => {
  setOnline(false);
  const { client, last } = scriptedAndWatched();
  await frame();
  expect(client.now.status).toBe("disconnected");
  await advance(2_000);
  setOnline(true);
  onPage("online");
  await frame();
  expect(client.now.status).toBe("connecting");
  last().accept();
  last().subscribed();
  await frame();
  expect(client.now.status).toBe("connected");
});

test("a page that only looks on, because it is disabled, is disconnected and opens no socket", async () => {
  const { client, sockets } = scripted();
  const disabled = watch(client, P, true);
  await advance(5_000);
  expect(sockets).toHaveLength(0);
  expect(disabled.now.status).toBe("disconnected");
});

test("a page that is disabled later keeps what it showed, disconnected and marked as stale", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client();
  const enabled = watch(client);
  gateway.publish(P, { type: "progress", jobId: "a", jobType: "audio", progress: 40 });
  await frame();
  const disabled = watch(client, P, true);
  enabled.leave();
  await advance(1_200);
  expect(gateway.connections).toHaveLength(0);
  expect(disabled.now).toMatchObject({ status: "disconnected", isStale: true, jobs: { a: { percent: 40 } } });
  expect(disabled.now.staleSince).not.toBeNull();

  gateway.publish(P, { type: "progress", jobId: "a", jobType: "audio", progress: 60 });
  const again = watch(client);
  await frame();
  expect(again.now).toMatchObject({ status: "connected", isStale: false, jobs: { a: { percent: 60 } } });
  expect(disabled.events.map(({ seq }) => seq)).toEqual([again.events[0]!.seq]);
});

test("a `subscribed` that comes after the page was disabled connects it no more", async () => {
  const shown = await page();
  watch(shown.client, Q);
  const disabled = watch(shown.client, P, true);
  shown.watcher.leave();
  await advance(1_100);
  expect(shown.last.sent.at(-1)).toEqual({ type: "unsubscribe", projectId: P });
  await shown.hear({ type: "subscribed", projectId: P, seq: 0, recovered: true });
  expect(disabled.now).toMatchObject({ status: "disconnected", isStale: true });
});

test("a passive listener is told everything while somebody else keeps the project subscribed", async () => {
  const shown = await page();
  const passive = watch(shown.client, P, true);
  await shown.hear({ type: "job_failed", projectId: P, seq: 1, jobId: "a", jobType: "audio", error: "broke" });
  expect(passive.events).toHaveLength(1);
  expect(passive.ends).toHaveLength(1);
  expect(passive.snapshots.at(-1)).toBe(shown.now);
  passive.leave();
  await advance(2_000);
  expect(shown.now.status).toBe("connected");
  expect(shown.last.sent.filter(({ type }) => type === "unsubscribe")).toEqual([]);
});

test.each(["", " ", "a b", "-a", ".a", "a/b", "ä", "a\n", "x".repeat(129)])(
  "the project id %j is disconnected with an error, and opens no socket",
  async (id) => {
    const { client, sockets } = scripted();
    const watcher = watch(client, id);
    await advance(30_000);
    expect(sockets).toHaveLength(0);
    expect(watcher.now).toMatchObject({ status: "disconnected", error: { code: "bad_project_id" } });
    expect(client.getStatus()).toBe("disconnected");
  },
);

test.each(["a", "7", "A-b_c.d:e", "x".repeat(128)])("%j is a project id", async (id) => {
  const { client, last } = await page();
  watch(client, id);
  expect(last.sent.at(-1)).toEqual({ type: "subscribe", projectId: id });
});

test("an invalid project id leaves the other projects alone", async () => {
  const shown = await page();
  watch(shown.client, "not an id");
  await frame();
  expect(shown.now).toMatchObject({ status: "connected", error: null });
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
});

test("the status of the connection itself is told when it changes, and only then", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client();
  const told: string[] = [];
  const leave = client.subscribe(() => told.push(client.getStatus()));
  expect(client.getStatus()).toBe("disconnected");
  const watcher = watch(client);
  expect(client.getStatus()).toBe("connecting");
  await frame();
  expect(client.getStatus()).toBe("connected");
  gateway.closeAll();
  await frame();
  await advance(1_000);
  watcher.leave();
  await advance(1_100);
  expect(told).toEqual(["connecting", "connected", "disconnected", "connecting", "connected", "disconnected"]);
  leave();
  watch(client);
  await frame();
  expect(told).toHaveLength(6);
});

test.each([
  ["http://shop.test/orders?x=1", "ws://shop.test/ws"],
  ["https://shop.test:8443/orders", "wss://shop.test:8443/ws"],
])("by default a page at %s connects to %s", async (href, expected) => {
  vi.stubGlobal("location", new URL(href));
  const { sockets, client } = scripted({ url: undefined });
  watch(client);
  expect(sockets.map(({ url }) => url)).toEqual([expected]);
});

test("a URL that is a function is asked at each connection", async () => {
  let replica = 0;
  const shown = await page(0, { url: () => `ws://replica-${++replica}.test/ws` });
  await shown.drop();
  expect(shown.sockets.map(({ url }) => url)).toEqual(["ws://replica-1.test/ws", "ws://replica-2.test/ws"]);
});

test("without `webSocketImpl` the page's own WebSocket is used", async () => {
  const gateway = new FakeGateway();
  vi.stubGlobal("WebSocket", gateway.WebSocket);
  const watcher = watch(createProgressClient({ url: "ws://gateway.test/ws" }));
  await frame();
  expect(watcher.now.status).toBe("connected");
});
