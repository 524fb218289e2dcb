/** StrictMode, in which React runs effects twice; and many hooks. */

import { render } from "@testing-library/react";
import { StrictMode } from "react";
import { expect, test, vi } from "vitest";
import { ProgressProvider, useConnectionStatus, useJob } from "../src/index.js";
import {
  advance,
  complete,
  GATEWAY_URL,
  LINGER_MS,
  noted,
  pageListeners,
  progress,
  RETRY_MS,
  strict,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

// StrictMode

test("StrictMode: a double mount is one socket and one subscription, each closed once", async () => {
  const wire = noted();
  const { Watch, last } = watcher();
  const { unmount } = render(strict(<Watch id="project_1" />, wire));
  await advance(5_000);
  expect(wire.urls).toHaveLength(1);
  expect(wire.sent).toEqual([subscribe("project_1")]);
  expect(pageListeners()).toHaveLength(4);
  expect(last().status).toBe("connected");
  unmount();
  await advance(LINGER_MS);
  expect(wire.sent).toEqual([subscribe("project_1"), unsubscribe("project_1")]);
  expect(wire.gateway.connections).toEqual([]);
});

test("StrictMode: three hooks of one project are one socket and one subscription", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const Selectors = () => (
    <>
      {useJob("project_1", "job_1")?.percent}
      {useConnectionStatus()}
    </>
  );
  const hooks = (
    <>
      <Watch id="project_1" />
      <Watch id="project_1" />
      <Watch id="project_1" />
      <Selectors />
    </>
  );
  render(strict(hooks, wire));
  await advance(5_000);
  expect(wire.urls).toHaveLength(1);
  expect(wire.sent).toEqual([subscribe("project_1")]);
});

test("StrictMode: 50 hooks of five projects are one socket and five subscriptions", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const hooks = Array.from({ length: 50 }, (_, n) => <Watch key={n} id={`project_${n % 5}`} />);
  const { unmount } = render(strict(hooks, wire));
  await advance(5_000);
  expect(wire.urls).toHaveLength(1);
  expect(wire.sent).toEqual([0, 1, 2, 3, 4].map((n) => subscribe(`project_${n}`)));
  unmount();
  await advance(LINGER_MS);
  expect(wire.sent.slice(5)).toEqual([0, 1, 2, 3, 4].map((n) => unsubscribe(`project_${n}`)));
  expect(wire.gateway.connections).toEqual([]);
});

test("StrictMode: a token is asked for once", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const getToken = vi.fn(() => Promise.resolve("t"));
  render(
    <StrictMode>
      <ProgressProvider url={GATEWAY_URL} webSocketImpl={wire.WebSocket} getToken={getToken}>
        <Watch id="project_1" />
      </ProgressProvider>
    </StrictMode>,
  );
  await advance(5_000);
  expect(getToken).toHaveBeenCalledOnce();
  expect(wire.urls).toEqual([GATEWAY_URL]);
});

test("StrictMode: each event and each end is reported once", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const onEvent = vi.fn();
  const onTerminal = vi.fn();
  wire.gateway.publish("project_1", complete("job_1"));
  render(strict(<Watch id="project_1" onEvent={onEvent} onTerminal={onTerminal} />, wire));
  await advance();
  const replayed = onTerminal.mock.calls.length;
  expect(onEvent).toHaveBeenCalledOnce();
  expect(replayed).toBeLessThanOrEqual(1);
  wire.gateway.publish("project_1", complete("job_2"));
  await advance();
  expect(onEvent).toHaveBeenCalledTimes(2);
  expect(onTerminal).toHaveBeenCalledTimes(replayed + 1);
});

test("StrictMode: a change of project or of enabled sends no more than without it", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const { rerender } = render(strict(<Watch id="project_1" />, wire));
  await advance();
  rerender(strict(<Watch id="project_2" />, wire));
  await advance(LINGER_MS);
  rerender(strict(<Watch id="project_2" enabled={false} />, wire));
  await advance(LINGER_MS);
  rerender(strict(<Watch id="project_2" enabled />, wire));
  await advance(LINGER_MS);
  expect(wire.sent).toEqual([
    subscribe("project_1"),
    subscribe("project_2"),
    unsubscribe("project_1"),
    unsubscribe("project_2"),
    subscribe("project_2"),
  ]);
  expect(wire.urls).toHaveLength(2);
});

test("StrictMode causes no warnings", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const said = [vi.spyOn(console, "error"), vi.spyOn(console, "warn")];
  render(strict(<Watch id="project_1" />, wire));
  await advance();
  wire.gateway.publish("project_1", progress("job_1", 10));
  wire.gateway.closeAll();
  await advance(RETRY_MS);
  for (const spy of said) expect(spy.mock.calls).toEqual([]);
});

// Many hooks

test("50 hooks are one socket and one subscription, and render together: once for each change", async () => {
  const { client, gateway, sent, urls } = noted();
  const { Watch, frames } = watcher();
  render(
    <ProgressProvider client={client()}>
      {Array.from({ length: 50 }, (_, n) => (
        <Watch key={n} id="project_1" />
      ))}
    </ProgressProvider>,
  );
  await advance();
  const before = frames.length;
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(urls).toHaveLength(1);
  expect(sent).toEqual([subscribe("project_1")]);
  expect(frames.length - before).toBe(50);
  const shown = frames.slice(before);
  for (const { jobs, events } of shown) {
    expect(jobs).toBe(shown[0]!.jobs);
    expect(events).toBe(shown[0]!.events);
  }
});
