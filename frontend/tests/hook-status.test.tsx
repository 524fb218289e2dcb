/** `useWebSocket`: how the connection is, as a component sees it, and `reconnect`. */

import { expect, test } from "vitest";
import { advance, FRAME_MS, page, progress, RETRY_MS, SLOW_TOKEN, withClock } from "./react-support.js";

withClock();

test("status goes connecting, connected, disconnected, connecting, connected over a lost link", async () => {
  const { gateway, statuses, last } = page("project_1", {}, SLOW_TOKEN);
  expect(statuses()).toEqual(["connecting"]);
  await advance(150);
  expect(statuses()).toEqual(["connecting", "connected"]);
  expect(last()).toMatchObject({ isStale: false, staleSince: null, error: null });
  const before = Date.now();
  gateway.closeAll(1006);
  await advance();
  expect(statuses()).toEqual(["connecting", "connected", "disconnected"]);
  expect(last()).toMatchObject({ isStale: true, error: { code: 1006 } });
  expect(last().retryAt).toBeGreaterThanOrEqual(before + 500);
  expect(last().staleSince).toBeLessThanOrEqual(Date.now());
  await advance(RETRY_MS + 200);
  expect(statuses()).toEqual(["connecting", "connected", "disconnected", "connecting", "connected"]);
  expect(last()).toMatchObject({ isStale: false, staleSince: null, error: null, retryAt: null, recovered: true });
});

test("an open socket is not yet connected: a project is when it is subscribed", async () => {
  const { gateway, last } = page("project_1", {}, SLOW_TOKEN);
  gateway.isAnswering = false;
  await advance(200);
  expect(gateway.connections).toHaveLength(1);
  expect(last().status).toBe("connecting");
});

test("a gateway that is down: disconnected with its error and the time of the next try", async () => {
  const { gateway, statuses, last } = page("project_1");
  gateway.isUp = false;
  await advance(100);
  expect(last()).toMatchObject({ status: "disconnected", error: { code: 1006 }, retryAt: expect.any(Number) });
  gateway.isUp = true;
  await advance(5_000);
  expect(last()).toMatchObject({ status: "connected", error: null, retryAt: null });
  expect(statuses().at(-1)).toBe("connected");
});

test("stale and live of the gateway change isStale and staleSince, not the status", async () => {
  const { gateway, last, statuses } = page("project_1");
  await advance();
  gateway.setStale(true);
  await advance();
  const since = last().staleSince;
  expect(last()).toMatchObject({ status: "connected", isStale: true, staleSince: expect.any(Number) });
  await advance(5_000);
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(last().staleSince).toBe(since);
  gateway.setStale(false);
  await advance();
  expect(last()).toMatchObject({ status: "connected", isStale: false, staleSince: null });
  expect(statuses()).toEqual(["connecting", "connected"]);
});

test("a gap that the gateway cannot fill is reported", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.closeAll();
  await advance();
  gateway.forget();
  await advance(RETRY_MS);
  expect(last()).toMatchObject({ status: "connected", recovered: false, isStale: true });
});

test("invalid messages lead to an error and a retry, never to an exception in the page", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  for (const rubbish of ["<html>502 Bad Gateway</html>", "null", "[]", "{}", '{"type":"progress"}', '"', "\u0000"]) {
    gateway.connections[0]?.send(rubbish);
    await advance();
    expect(last().error, rubbish).not.toBeNull();
    await advance(60_000);
    expect(last(), rubbish).toMatchObject({ status: "connected", error: null });
  }
});

// reconnect()

test("after a final close code nothing is tried until reconnect is called", async () => {
  const { gateway, last, statuses, urls } = page("project_1", {}, SLOW_TOKEN);
  await advance(200);
  gateway.closeAll(4401, "Who are you?");
  await advance();
  expect(last()).toMatchObject({
    status: "disconnected",
    isStale: true,
    retryAt: null,
    error: { code: 4401, message: "Who are you?" },
  });
  await advance(120_000);
  expect(urls).toHaveLength(1);
  last().reconnect();
  await advance(200);
  expect(urls).toHaveLength(2);
  expect(last()).toMatchObject({ status: "connected", isStale: false, error: null });
  expect(statuses()).toEqual(["connecting", "connected", "disconnected", "connecting", "connected"]);
});

test("reconnect does not wait for the back-off", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.closeAll();
  await advance();
  last().reconnect();
  await advance();
  expect(last()).toMatchObject({ status: "connected", retryAt: null });
});

test("the reconnect of an old result still works; without a project it does nothing", async () => {
  const { gateway, frames, last, show, urls } = page(null);
  frames[0]!.reconnect();
  await advance(5_000);
  expect(urls).toEqual([]);
  show("project_1");
  await advance();
  gateway.closeAll(4400);
  await advance();
  frames[0]!.reconnect();
  await advance();
  expect(last().status).toBe("connected");
});

test("reconnect can be given to a button as it is", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.closeAll(4401);
  await advance();
  const { reconnect } = last();
  (reconnect as (event: unknown) => void)({ type: "click" });
  await advance(FRAME_MS);
  expect(last().status).toBe("connected");
});

test("reconnect on a link that works: nothing is missed and nothing is shown as lost", async () => {
  const { gateway, last, statuses, frames } = page("project_1", {}, SLOW_TOKEN);
  await advance(200);
  last().reconnect();
  await advance(50);
  gateway.publish("project_1", progress("job_1", 10));
  await advance(500);
  expect(gateway.attempts).toBe(2);
  expect(gateway.connections).toHaveLength(1);
  expect(last().jobs["job_1"]?.percent).toBe(10);
  expect(last().events, "not twice").toHaveLength(1);
  expect(statuses()).toEqual(["connecting", "connected"]);
  expect(frames.filter(({ status, isStale }) => status === "connected" && isStale)).toEqual([]);
});
