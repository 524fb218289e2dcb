/** `useWebSocket`: components that come and go, at each moment of a connection. */

import { render } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { ProgressProvider } from "../src/index.js";
import {
  advance,
  complete,
  LINGER_MS,
  noted,
  page,
  pageListeners,
  progress,
  RETRY_MS,
  SLOW_TOKEN,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

test("unmounted and mounted again within a second: nothing is sent", async () => {
  const { gateway, client, sent, urls } = noted();
  const shared = client();
  const { Watch, frames } = watcher();
  const element = (
    <ProgressProvider client={shared}>
      <Watch id="project_1" />
    </ProgressProvider>
  );
  const first = render(element);
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  first.unmount();
  await advance(900);
  gateway.publish("project_1", progress("job_1", 30)); // is not missed
  const before = frames.length;
  render(element);
  await advance(5_000);
  expect(sent).toEqual([subscribe("project_1")]);
  expect(urls).toHaveLength(1);
  expect(frames[before], "what is known is there in the first render").toMatchObject({
    status: "connected",
    jobs: { job_1: { percent: 10 } },
  });
  expect(frames.at(-1)!.jobs["job_1"]?.percent).toBe(30);
});

test("each unmount starts the linger anew", async () => {
  const { show, sent } = page("project_1");
  await advance();
  for (let n = 0; n < 3; n++) {
    show(null);
    await advance(700);
    show("project_1");
    await advance(100); // less than what was left of the last linger
  }
  expect(sent).toEqual([subscribe("project_1")]);
});

test("unmounted for longer: unsubscribed, and the socket closed", async () => {
  const { gateway, unmount, sent } = page("project_1");
  await advance();
  expect(pageListeners()).toEqual(["online", "offline", "pageshow", "visibilitychange"]);
  unmount();
  await advance(900);
  expect(gateway.connections).toHaveLength(1);
  await advance(200);
  expect(sent).toEqual([subscribe("project_1"), unsubscribe("project_1")]);
  expect(gateway.connections).toEqual([]);
  expect(pageListeners()).toEqual([]);
});

test("what lingers and then ends is not told to anybody: unmounted components are not called", async () => {
  const onEvent = vi.fn();
  const onTerminal = vi.fn();
  const { gateway, unmount, frames } = page("project_1", { onEvent, onTerminal });
  await advance();
  unmount();
  const count = frames.length;
  gateway.publish("project_1", complete("job_1"));
  await advance(5_000);
  expect(onEvent).not.toHaveBeenCalled();
  expect(onTerminal).not.toHaveBeenCalled();
  expect(frames).toHaveLength(count);
});

test("one component of two leaves: the project stays subscribed", async () => {
  const { client, sent, gateway } = noted();
  const shared = client();
  const { Watch, last } = watcher();
  const element = (isTwo: boolean) => (
    <ProgressProvider client={shared}>
      <Watch id="project_1" />
      {isTwo && <Watch id="project_1" />}
    </ProgressProvider>
  );
  const { rerender } = render(element(true));
  await advance();
  rerender(element(false));
  await advance(5_000);
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(sent).toEqual([subscribe("project_1")]);
  expect(last().jobs["job_1"]?.percent).toBe(10);
});

type Wire = ReturnType<typeof noted>;

// Each state of a connection in which a page may leave.
const MOMENTS: Record<string, (wire: Wire) => Promise<unknown>> = {
  "before anything has happened": async () => {},
  "while the token is asked for": () => advance(50),
  "while nothing answers": async ({ gateway }) => {
    gateway.isAnswering = false;
    await advance(300);
  },
  "while subscribed": () => advance(300),
  "before the next frame": async ({ gateway }) => {
    await advance(300);
    for (let n = 0; n < 100; n++) gateway.publish("project_1", progress(`job_${n}`, n));
    await Promise.resolve();
  },
  "while waiting for the next try": async ({ gateway }) => {
    gateway.isUp = false;
    await advance(300);
  },
  "in the middle of a move to another replica": async ({ gateway }) => {
    await advance(300);
    gateway.goAway([0, 20_000]);
    await advance();
  },
  "while the next replica is connected to": async ({ gateway }) => {
    await advance(300);
    gateway.goAway([0, 0]);
    await advance(50);
  },
  "while a sleeping link is probed": async ({ gateway }) => {
    await advance(300);
    gateway.isAnswering = false;
    dispatchEvent(new Event("online"));
    await advance();
  },
  "while the network is away": async () => {
    await advance(300);
    dispatchEvent(new Event("offline"));
    await advance();
  },
  "when its subscription was refused": async ({ gateway }) => {
    await advance(300);
    gateway.closeAll();
    gateway.isAnswering = false;
    await advance(RETRY_MS + 200);
    gateway.isAnswering = true;
    const error = { type: "error", code: "rate_limited", message: "Later", projectId: "project_1" };
    gateway.connections[0]!.send(error);
    await advance();
  },
  "after a fatal close": async ({ gateway }) => {
    await advance(300);
    gateway.closeAll(4401);
    await advance();
  },
};

test.each(Object.entries(MOMENTS))("unmounted %s: no timer, socket or listener is left", async (_, until) => {
  const { unmount, ...wire } = page("project_1", {}, SLOW_TOKEN);
  await until(wire);
  unmount();
  await advance(LINGER_MS);
  expect(vi.getTimerCount()).toBe(0);
  expect(wire.gateway.connections).toEqual([]);
  expect(pageListeners()).toEqual([]);
  wire.gateway.isUp = wire.gateway.isAnswering = true;
  const attempts = wire.urls.length;
  for (const type of ["online", "pageshow", "visibilitychange"]) dispatchEvent(new Event(type));
  await advance(60_000);
  expect(wire.urls).toHaveLength(attempts);
});
