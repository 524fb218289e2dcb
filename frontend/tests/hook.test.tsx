/** `useWebSocket`, as a component sees it. */

import { render, renderHook } from "@testing-library/react";
import { useEffect, useState } from "react";
import { expect, test, vi } from "vitest";
import {
  type Job,
  type JobEvent,
  type ProgressClient,
  ProgressProvider,
  useWebSocket,
  type WebSocketOptions,
  type WebSocketResult,
} from "../src/index.js";
import {
  advance,
  complete,
  FRAME_MS,
  LINGER_MS,
  noted,
  pageListeners,
  progress,
  RETRY_MS,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

/** A page that watches one project, and may be given other options at any time. */
function page(id: string | null | undefined, options: WebSocketOptions = {}, clientOptions = {}) {
  const wire = noted();
  const client = wire.client(clientOptions);
  const watch = watcher();
  const element = (newId: typeof id, newOptions: WebSocketOptions = {}) => (
    <ProgressProvider client={client}>
      <watch.Watch id={newId} {...newOptions} />
    </ProgressProvider>
  );
  const { rerender, unmount, container } = render(element(id, options));
  return {
    ...wire,
    ...watch,
    container,
    unmount,
    show: (newId: typeof id, newOptions?: WebSocketOptions) => rerender(element(newId, newOptions)),
  };
}

const SLOW_TOKEN = { getToken: () => new Promise<string>((resolve) => setTimeout(() => resolve("t"), 100)) };

// What a component is given

test("the result has one shape, from the first render on", async () => {
  const { frames, gateway } = page("project_1");
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.closeAll();
  await advance();
  for (const frame of frames) {
    expect(Object.keys(frame).sort()).toEqual(
      [
        "error",
        "events",
        "id", // the test's own
        "isStale",
        "jobs",
        "lastEvent",
        "reconnect",
        "recovered",
        "retryAt",
        "staleSince",
        "status",
      ].sort(),
    );
  }
});

test("the first render says: connecting, nothing known, nothing to rely on", () => {
  const { frames } = page("project_1");
  expect(frames[0]).toMatchObject({
    status: "connecting",
    lastEvent: null,
    events: [],
    jobs: {},
    isStale: true,
    staleSince: null,
    recovered: true,
    error: null,
    retryAt: null,
  });
});

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

test("a gap that the gateway cannot fill is told", async () => {
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

test("rubbish from the server is an error and a retry, never an exception in the page", async () => {
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

test("lastEvent, events and jobs are given together, newest last", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  gateway.publish("project_1", progress("job_2", 20));
  gateway.publish("project_1", complete("job_1"));
  await advance();
  const { events, lastEvent, jobs } = last();
  expect(events.map(({ type, jobId }) => [type, jobId])).toEqual([
    ["progress", "job_1"],
    ["progress", "job_2"],
    ["job_complete", "job_1"],
  ]);
  expect(lastEvent).toBe(events[2]);
  expect(jobs["job_1"]).toMatchObject({ status: "complete", percent: 100, isTerminal: true });
  expect(jobs["job_1"]?.result).toMatchObject({ file: "job_1.mp3" });
  expect(jobs["job_2"]).toMatchObject({ status: "running", percent: 20, isTerminal: false });
});

test("lastEvent is the newest that is known, also when it was replayed", async () => {
  const wire = noted();
  wire.gateway.publish("project_1", progress("job_1", 10));
  wire.gateway.publish("project_1", progress("job_2", 20));
  const { Watch, last } = watcher();
  render(
    <ProgressProvider client={wire.client()}>
      <Watch id="project_1" />
    </ProgressProvider>,
  );
  await advance();
  expect(last().lastEvent).toMatchObject({ jobId: "job_2", isReplay: true });
});

test("jobs keep the order in which they came, and those that did not change their identity", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  for (const jobId of ["zebra", "ant", "moose"]) gateway.publish("project_1", progress(jobId, 10));
  await advance();
  const before = last().jobs;
  expect(Object.keys(before)).toEqual(["zebra", "ant", "moose"]);
  gateway.publish("project_1", progress("zebra", 50));
  await advance();
  const after = last().jobs;
  expect(Object.keys(after)).toEqual(["zebra", "ant", "moose"]);
  expect(after).not.toBe(before);
  expect(after["ant"]).toBe(before["ant"]);
  expect(after["moose"]).toBe(before["moose"]);
  expect(after["zebra"]).not.toBe(before["zebra"]);
  expect(before["zebra"]?.percent, "a snapshot never changes").toBe(10);
});

test("when only the connection changes, jobs and events stay the same objects", async () => {
  const { gateway, last } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  const before = last();
  gateway.closeAll();
  await advance();
  expect(last().status).toBe("disconnected");
  expect(last().jobs).toBe(before.jobs);
  expect(last().events).toBe(before.events);
});

test("the result is the same object in each render until something changes, as deps of effects need it", async () => {
  const { results, show } = page("project_1");
  await advance();
  const before = results.at(-1);
  const count = results.length;
  for (let n = 0; n < 5; n++) show("project_1", { onEvent: () => n });
  expect(results).toHaveLength(count + 5);
  for (const result of results.slice(count)) expect(result).toBe(before);
});

test("reconnect is always the same function, as deps of effects need it", async () => {
  const { gateway, frames } = page("project_1");
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(frames.length).toBeGreaterThan(3);
  expect(new Set(frames.map(({ reconnect }) => reconnect)).size).toBe(1);
});

// Project ids

test.each([null, undefined, ""])("projectId %j: disconnected, no socket", async (id) => {
  const { frames, urls } = page(id);
  await advance(5_000);
  expect(urls).toEqual([]);
  expect(pageListeners()).toEqual([]);
  for (const frame of frames) {
    expect(frame).toMatchObject({ status: "disconnected", jobs: {}, events: [], lastEvent: null, error: null });
  }
  expect(frames).toHaveLength(1);
});

test.each(["two words", "-first", "../up", "a/b", "ü", "x".repeat(129), " ", "project_1\n"])(
  "projectId %j, which is none: disconnected with an error, no socket",
  async (id) => {
    const { last, urls } = page(id);
    await advance(5_000);
    expect(last()).toMatchObject({ status: "disconnected", error: { code: "bad_project_id" }, retryAt: null });
    expect(last().error?.message).toEqual(expect.any(String));
    expect(urls).toEqual([]);
  },
);

test("a projectId that is none does not disturb one that is", async () => {
  const { gateway, client, sent } = noted();
  const bad = watcher();
  const good = watcher();
  render(
    <ProgressProvider client={client()}>
      <bad.Watch id="not an id" />
      <good.Watch id="project_1" />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(good.last()).toMatchObject({ status: "connected", error: null });
  expect(good.last().jobs["job_1"]?.percent).toBe(10);
  expect(bad.last().status).toBe("disconnected");
  expect(sent).toEqual([subscribe("project_1")]);
});

test("a changed projectId drops the old project's data in the very first render", async () => {
  const { frames, gateway, show, sent, urls, container } = page("project_a");
  gateway.publish("project_a", progress("job_a", 10));
  gateway.publish("project_b", progress("job_b", 20));
  await advance();
  expect(frames.at(-1)!.jobs).toHaveProperty("job_a");
  show("project_b");
  expect(container.textContent).not.toContain("job_a");
  await advance();
  const ofB = frames.filter(({ id }) => id === "project_b");
  expect(ofB[0]).toMatchObject({ status: "connecting", lastEvent: null, events: [], jobs: {}, isStale: true });
  for (const { jobs, events } of ofB) {
    expect(jobs).not.toHaveProperty("job_a");
    expect(events.map(({ projectId }) => projectId)).not.toContain("project_a");
  }
  expect(ofB.at(-1)!.jobs).toHaveProperty("job_b");
  expect(sent).toEqual([subscribe("project_a"), subscribe("project_b")]);
  await advance(LINGER_MS);
  expect(sent).toEqual([subscribe("project_a"), subscribe("project_b"), unsubscribe("project_a")]);
  expect(urls, "all on the same socket").toHaveLength(1);
});

test("events of the old project, which lingers, do not reach the callbacks of the new one", async () => {
  const events: string[] = [];
  const onEvent = ({ projectId }: JobEvent) => events.push(projectId);
  const { gateway, show } = page("project_a", { onEvent });
  await advance();
  show("project_b", { onEvent });
  await advance();
  gateway.publish("project_a", complete("job_a"));
  gateway.publish("project_b", complete("job_b"));
  await advance();
  expect(events).toEqual(["project_b"]);
});

test("there and back within the linger sends nothing and shows the data at once", async () => {
  const { frames, gateway, show, sent } = page("project_a");
  gateway.publish("project_a", progress("job_a", 10));
  await advance();
  show("project_b");
  await advance(500);
  show("project_a");
  expect(frames.filter(({ id }) => id === "project_a").at(-1)!.jobs).toHaveProperty("job_a");
  await advance(LINGER_MS);
  expect(sent).toEqual([subscribe("project_a"), subscribe("project_b"), unsubscribe("project_b")]);
});

test("a projectId that comes later connects, and one that goes disconnects at once for the page", async () => {
  const { frames, gateway, last, show, sent } = page(null);
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  show("project_1");
  await advance();
  expect(last().status).toBe("connected");
  show(null);
  const afterwards = frames.filter(({ id }) => id === null).at(-1)!;
  expect(afterwards).toMatchObject({ status: "disconnected", jobs: {}, events: [], lastEvent: null });
  await advance(LINGER_MS);
  expect(sent).toEqual([subscribe("project_1"), unsubscribe("project_1")]);
  expect(gateway.connections).toEqual([]);
});

// Mounting and unmounting

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

// `enabled`

test("enabled false: disconnected, the data stays and is stale; true again resumes where it was", async () => {
  const { gateway, last, show, sent } = page("project_1", { enabled: true });
  await advance();
  const seq = gateway.publish("project_1", progress("job_1", 10));
  await advance();
  show("project_1", { enabled: false });
  expect(last(), "at once").toMatchObject({ status: "disconnected", isStale: true, jobs: { job_1: { percent: 10 } } });
  await advance(LINGER_MS);
  expect(last()).toMatchObject({ status: "disconnected", isStale: true, error: null, retryAt: null });
  expect(last().staleSince).toEqual(expect.any(Number));
  expect(last().jobs["job_1"]?.percent).toBe(10);
  expect(gateway.connections).toEqual([]);
  gateway.publish("project_1", progress("job_1", 60));
  await advance(10_000);
  expect(last().jobs["job_1"]?.percent).toBe(10);
  show("project_1", { enabled: true });
  await advance();
  expect(sent).toEqual([
    subscribe("project_1"),
    unsubscribe("project_1"),
    { type: "subscribe", projectId: "project_1", since: seq },
  ]);
  expect(last()).toMatchObject({ status: "connected", isStale: false, staleSince: null, recovered: true });
  expect(last().jobs["job_1"]?.percent).toBe(60);
});

test("enabled false at first: no socket, and connected as soon as it is true", async () => {
  const { gateway, last, show, sent, urls } = page("project_1", { enabled: false });
  gateway.publish("project_1", progress("job_1", 10));
  await advance(5_000);
  expect(urls).toEqual([]);
  expect(last()).toMatchObject({ jobs: {}, isStale: true, error: null });
  show("project_1", { enabled: true });
  await advance();
  expect(last()).toMatchObject({ status: "connected", isStale: false });
  expect(last().jobs["job_1"]?.percent).toBe(10);
  expect(sent).toEqual([subscribe("project_1")]);
});

test("enabled false at first: the status is disconnected", async () => {
  const { statuses } = page("project_1", { enabled: false });
  await advance(5_000);
  expect(statuses()).toEqual(["disconnected"]);
});

test("enabled false for a moment sends nothing", async () => {
  const { show, sent, urls } = page("project_1");
  await advance();
  for (let n = 0; n < 10; n++) show("project_1", { enabled: n % 2 === 1 });
  await advance(5_000);
  expect(sent).toEqual([subscribe("project_1")]);
  expect(urls).toHaveLength(1);
});

test("enabled false leaves a project alone that another component watches", async () => {
  const { client, sent, gateway } = noted();
  const shared = client();
  const off = watcher();
  const on = watcher();
  const element = (enabled: boolean) => (
    <ProgressProvider client={shared}>
      <off.Watch id="project_1" enabled={enabled} />
      <on.Watch id="project_1" />
    </ProgressProvider>
  );
  const { rerender } = render(element(true));
  await advance();
  rerender(element(false));
  await advance(LINGER_MS);
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(on.last()).toMatchObject({ status: "connected", isStale: false });
  expect(on.last().jobs["job_1"]?.percent).toBe(10);
  expect(sent).toEqual([subscribe("project_1")]);
});

test("enabled false holds for the component that says so, also while another one watches the project", async () => {
  const { client, gateway } = noted();
  const shared = client();
  const off = watcher();
  const on = watcher();
  render(
    <ProgressProvider client={shared}>
      <on.Watch id="project_1" />
      <off.Watch id="project_1" enabled={false} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  await advance();
  expect(on.last()).toMatchObject({ status: "connected", isStale: false });
  expect(off.statuses()).toEqual(["disconnected"]);
  expect(off.last().isStale).toBe(true);
});

test("enabled false: a component is told of no events, also while another one watches the project", async () => {
  const { client, gateway } = noted();
  const shared = client();
  const { Watch } = watcher();
  const onEvent = vi.fn();
  const onTerminal = vi.fn();
  render(
    <ProgressProvider client={shared}>
      <Watch id="project_1" />
      <Watch id="project_1" enabled={false} onEvent={onEvent} onTerminal={onTerminal} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  await advance();
  expect(onEvent).not.toHaveBeenCalled();
  expect(onTerminal).not.toHaveBeenCalled();
});

// Options

test("options that are new in each render reconnect nothing and do not render endlessly", async () => {
  const { frames, show, sent, urls } = page("project_1", { onEvent: () => {}, onTerminal: () => {}, enabled: true });
  await advance();
  const before = frames.length;
  for (let n = 0; n < 20; n++) {
    show("project_1", { onEvent: () => n, onTerminal: () => n, enabled: true });
    await advance(100);
  }
  expect(frames).toHaveLength(before + 20);
  expect(sent).toEqual([subscribe("project_1")]);
  expect(urls).toHaveLength(1);
});

test("options that are new in each render do not even listen anew", async () => {
  const { client } = noted();
  const shared = client();
  const listened = vi.fn();
  const counted: ProgressClient = {
    subscribe: shared.subscribe,
    getStatus: shared.getStatus,
    reconnect: shared.reconnect,
    project: (id) => {
      const store = shared.project(id);
      return {
        getSnapshot: store.getSnapshot,
        subscribe: (...args) => {
          listened();
          return store.subscribe(...args);
        },
      };
    },
  };
  const { Watch } = watcher();
  const element = (n: number) => (
    <ProgressProvider client={counted}>
      <Watch id="project_1" onEvent={() => n} onTerminal={() => n} />
    </ProgressProvider>
  );
  const { rerender } = render(element(0));
  for (let n = 1; n <= 10; n++) rerender(element(n));
  await advance();
  expect(listened).toHaveBeenCalledOnce();
});

test("an idle page does not render", async () => {
  const { frames } = page("project_1");
  await advance(100);
  const before = frames.length;
  expect(before).toBeLessThanOrEqual(3);
  await advance(120_000);
  expect(frames).toHaveLength(before);
});

test("the newest onEvent and onTerminal are called, each with what it has closed over", async () => {
  const seen: string[] = [];
  const options = (n: number): WebSocketOptions => ({
    onEvent: (event) => seen.push(`event ${n} ${event.type}`),
    onTerminal: (job) => seen.push(`terminal ${n} ${job.jobId}`),
  });
  const { gateway, show } = page("project_1", options(1));
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  show("project_1", options(2));
  gateway.publish("project_1", complete("job_1"));
  await advance();
  show("project_1"); // no callbacks any more
  gateway.publish("project_1", complete("job_2"));
  await advance();
  show("project_1", options(3));
  gateway.publish("project_1", complete("job_3"));
  await advance();
  expect(seen).toEqual([
    "event 1 progress",
    "event 2 job_complete",
    "terminal 2 job_1",
    "event 3 job_complete",
    "terminal 3 job_3",
  ]);
});

test("an onEvent that sets state, in a component that is given new options each time, comes to rest", async () => {
  const { gateway, client, sent } = noted();
  const shared = client();
  let renders = 0;
  const { result } = renderHook(
    () => {
      renders++;
      const [count, setCount] = useState(0);
      const { jobs } = useWebSocket("project_1", { onEvent: () => setCount((n) => n + 1) });
      return { count, jobs };
    },
    { wrapper: ({ children }) => <ProgressProvider client={shared}>{children}</ProgressProvider> },
  );
  await advance();
  for (let n = 0; n < 10; n++) gateway.publish("project_1", progress("job_1", n));
  await advance(5_000);
  expect(result.current).toMatchObject({ count: 10, jobs: { job_1: { percent: 9 } } });
  expect(renders).toBeLessThan(20);
  expect(sent).toEqual([subscribe("project_1")]);
});

test("an effect that depends on the result runs once for each change, and may set state", async () => {
  const { gateway, client } = noted();
  const shared = client();
  let effects = 0;
  renderHook(
    () => {
      const result = useWebSocket("project_1", {});
      const [, setSeen] = useState<WebSocketResult>();
      useEffect(() => {
        effects++;
        if (effects < 100) setSeen(result); // else an error here would be a test that never ends
      }, [result]);
    },
    { wrapper: ({ children }) => <ProgressProvider client={shared}>{children}</ProgressProvider> },
  );
  await advance();
  const before = effects;
  expect(before).toBeLessThanOrEqual(3);
  gateway.publish("project_1", progress("job_1", 10));
  await advance(5_000);
  expect(effects).toBe(before + 1);
});

// Events

test("each event of a burst of 2,000 reaches onEvent, in order, with few renders", async () => {
  const seqs: number[] = [];
  const { gateway, frames, last } = page("project_1", { onEvent: ({ seq }) => seqs.push(seq!) });
  await advance();
  const before = frames.length;
  const published: number[] = [];
  for (let n = 0; n < 2_000; n++) published.push(gateway.publish("project_1", progress(`job_${n % 20}`, n / 20)));
  await advance(5_000);
  expect(seqs).toEqual(published);
  expect(frames.length - before).toBeLessThanOrEqual(2);
  expect(Object.keys(last().jobs)).toHaveLength(20);
  expect(last().jobs["job_19"]?.percent).toBe(1999 / 20);
  expect(
    last().events.map(({ seq }) => seq),
    "bounded",
  ).toEqual(published.slice(-100));
  expect(last().lastEvent?.seq).toBe(published.at(-1));
});

test("a burst that takes a second renders at most once a frame, and does not wait for its end", async () => {
  const { gateway, frames } = page("project_1");
  await advance();
  const before = frames.length;
  for (let ms = 0; ms < 1_000; ms += 2) {
    gateway.publish("project_1", progress("job_1", ms / 10));
    gateway.publish("project_1", progress("job_2", ms / 10));
    await advance(2);
  }
  const renders = frames.length - before;
  expect(renders).toBeLessThanOrEqual(1_000 / 16 + 1);
  expect(renders).toBeGreaterThan(20);
});

test("in a hidden tab, which has no frames, what is shown changes too, and still not with every event", async () => {
  vi.stubGlobal("requestAnimationFrame", () => 0);
  const { gateway, frames, last } = page("project_1");
  await advance(500);
  expect(last().status).toBe("connected");
  const before = frames.length;
  for (let n = 1; n <= 100; n++) gateway.publish("project_1", progress("job_1", n));
  await advance(500);
  expect(last().jobs["job_1"]?.percent).toBe(100);
  expect(frames.length - before).toBe(1);
});

test("what was before the page is marked as a replay for onEvent, what comes is not", async () => {
  const { gateway, client } = noted();
  gateway.publish("project_1", complete("yesterday"));
  const seen: [string, boolean][] = [];
  const { Watch } = watcher();
  render(
    <ProgressProvider client={client()}>
      <Watch id="project_1" onEvent={({ jobId, isReplay }) => seen.push([jobId, isReplay])} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("today"));
  await advance();
  expect(seen).toEqual([
    ["yesterday", true],
    ["today", false],
  ]);
});

test("onTerminal is called once for a job, with the job and its event, whatever is sent again", async () => {
  const ends: [Job, JobEvent][] = [];
  const { gateway, last } = page("project_1", { onTerminal: (...end) => ends.push(end) });
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  const seq = gateway.publish("project_1", complete("job_1"));
  await advance();
  expect(ends).toHaveLength(1);
  expect(ends[0]![0]).toMatchObject({ jobId: "job_1", status: "complete", percent: 100, isTerminal: true });
  expect(ends[0]![1]).toMatchObject({ type: "job_complete", jobId: "job_1", seq });
  gateway.connections[0]!.send({ ...complete("job_1"), projectId: "project_1", seq });
  await advance();
  for (let n = 0; n < 3; n++) {
    gateway.closeAll();
    await advance(30_000);
  }
  gateway.forget(); // so that it is replayed as a whole
  gateway.publish("project_1", complete("job_1"));
  gateway.closeAll();
  await advance(30_000);
  expect(last().status).toBe("connected");
  expect(ends).toHaveLength(1);
});

test("an end that was published while offline reaches onTerminal exactly once", async () => {
  const ends: string[] = [];
  const { gateway, last } = page("project_1", { onTerminal: ({ jobId }) => ends.push(jobId) });
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  gateway.isUp = false;
  gateway.closeAll();
  gateway.publish("project_1", complete("job_1"));
  await advance(10_000);
  expect(last()).toMatchObject({ status: "disconnected", jobs: { job_1: { percent: 10 } } });
  expect(ends).toEqual([]);
  gateway.isUp = true;
  await advance(30_000);
  expect(last()).toMatchObject({ status: "connected", jobs: { job_1: { percent: 100 } } });
  expect(ends).toEqual(["job_1"]);
});

test("two components are each told of each event and of each end", async () => {
  const { gateway, client } = noted();
  const { Watch } = watcher();
  const calls = [vi.fn(), vi.fn(), vi.fn(), vi.fn()] as const;
  render(
    <ProgressProvider client={client()}>
      <Watch id="project_1" onEvent={calls[0]} onTerminal={calls[1]} />
      <Watch id="project_1" onEvent={calls[2]} onTerminal={calls[3]} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  await advance();
  for (const call of calls) expect(call).toHaveBeenCalledOnce();
});

test("an onEvent or onTerminal that throws is reported, and breaks nothing", async () => {
  const { gateway, client } = noted();
  const bad = watcher();
  const good = watcher();
  const seen = vi.fn();
  const ended = vi.fn();
  const fail = (what: string) => () => {
    throw new Error(`My own mistake in ${what}`);
  };
  render(
    <ProgressProvider client={client()}>
      <bad.Watch id="project_1" onEvent={fail("onEvent")} onTerminal={fail("onTerminal")} />
      <good.Watch id="project_1" onEvent={seen} onTerminal={ended} />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", complete("job_1"));
  // It is thrown where nothing else is done: from a timer of its own, so window.onerror and error trackers see it.
  await expect(advance()).rejects.toThrow("My own mistake in onEvent");
  await advance();
  expect(seen).toHaveBeenCalledOnce();
  expect(ended).toHaveBeenCalledOnce();
  for (const { last } of [bad, good]) {
    expect(last()).toMatchObject({ status: "connected", error: null, jobs: { job_1: { percent: 100 } } });
  }
  expect(gateway.attempts).toBe(1);
});

// reconnect()

test("after a fatal close nothing is tried, until reconnect is called", async () => {
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

test("reconnect of a first result, kept, still works; and one without a project does nothing", async () => {
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
