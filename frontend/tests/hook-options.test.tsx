/** `useWebSocket`: `enabled`, and options that are new in each render. */

import { render, renderHook } from "@testing-library/react";
import { useEffect, useState } from "react";
import { expect, test, vi } from "vitest";
import {
  type ProgressClient,
  ProgressProvider,
  useWebSocket,
  type WebSocketOptions,
  type WebSocketResult,
} from "../src/index.js";
import {
  advance,
  complete,
  LINGER_MS,
  noted,
  page,
  progress,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

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
    probe: shared.probe,
    close: shared.close,
    project: <Data,>(id: string) => {
      const store = shared.project<Data>(id);
      return {
        getSnapshot: store.getSnapshot,
        subscribe: (...args: Parameters<typeof store.subscribe>) => {
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
