/** What a `ProgressProvider` is given besides the `url`, and how its socket is shared. */

import { render } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { ProgressProvider } from "../src/index.js";
import {
  advance,
  GATEWAY_URL,
  LINGER_MS,
  noted,
  providerPage as page,
  progress,
  RETRY_MS,
  subscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

// The token

test("the token is the first message, before the subscribes, and never in the URL", async () => {
  const { sent, urls } = page({ url: "ws://gateway.test/ws?v=1", getToken: () => "a b&c=d/é+" });
  await advance();
  expect(urls).toEqual(["ws://gateway.test/ws?v=1"]);
  expect(sent).toEqual([{ type: "auth", token: "a b&c=d/é+" }, subscribe("project_1")]);
});

test("of getToken always the latest one is called, when the token was refused; a new one alone does not reconnect", async () => {
  const asked: number[] = [];
  const getToken = (n: number) => async () => {
    asked.push(n);
    return `token_${n}`;
  };
  const { gateway, tokens, show, urls } = page({ getToken: getToken(1) });
  await advance();
  for (let n = 2; n <= 5; n++) {
    show({ getToken: getToken(n) });
    await advance(100);
  }
  expect(asked).toEqual([1]);
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(asked, "the token is kept").toEqual([1]);
  gateway.closeAll(4401, "token expired");
  await advance(2 * RETRY_MS);
  expect(asked).toEqual([1, 5]);
  expect(tokens()).toEqual(["token_1", "token_1", "token_5"]);
  expect(urls).toHaveLength(3);
});

test.each([
  ["rejects", () => Promise.reject(new Error("Signed out"))],
  [
    "throws",
    () => {
      throw new Error("Signed out");
    },
  ],
])("a getToken that %s is an error and is tried again, and does not break the page", async (_, getToken) => {
  const { last, show, tokens, urls } = page({ getToken });
  await advance();
  expect(last()).toMatchObject({ status: "disconnected", retryAt: expect.any(Number) });
  expect(last().error?.message).toContain("Signed out");
  expect(urls).toEqual([]);
  show({ getToken: () => "good" });
  await advance(RETRY_MS);
  expect(last()).toMatchObject({ status: "connected", error: null });
  expect(tokens()).toEqual(["good"]);
});

test("a token that comes after the page left opens no socket", async () => {
  let give: (token: string) => void = () => {};
  const { unmount, urls } = page({ getToken: () => new Promise((resolve) => (give = resolve)) });
  await advance();
  unmount();
  await advance(LINGER_MS);
  give("late");
  await advance(5_000);
  expect(urls).toEqual([]);
});

// Other options

test("historyLimit bounds events, not jobs", async () => {
  const { gateway, last } = page({ historyLimit: 3 });
  await advance();
  for (let n = 0; n < 10; n++) gateway.publish("project_1", progress(`job_${n}`, n));
  await advance();
  expect(last().events.map(({ jobId }) => jobId)).toEqual(["job_7", "job_8", "job_9"]);
  expect(Object.keys(last().jobs)).toHaveLength(10);
});

test("another historyLimit alone does not reconnect", async () => {
  const { gateway, last, sent, show, urls } = page({ historyLimit: 3 });
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  show({ historyLimit: 5 });
  expect(last().jobs).toHaveProperty("job_1");
  await advance(5_000);
  expect(urls).toHaveLength(1);
  expect(sent).toEqual([subscribe("project_1")]);
});

test("a getToken that is added later does not reconnect, and is used for the next connection", async () => {
  const { gateway, show, tokens, urls } = page({});
  await advance();
  show({ getToken: () => "late" });
  await advance(5_000);
  expect(urls).toEqual([GATEWAY_URL]);
  expect(tokens()).toEqual([]);
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(urls).toEqual([GATEWAY_URL, GATEWAY_URL]);
  expect(tokens()).toEqual(["late"]);
});

test("options that change in the same render as the url count for it", async () => {
  const { gateway, last, show } = page({ url: "ws://one.test/ws", historyLimit: 3 });
  await advance();
  show({ url: "ws://two.test/ws", historyLimit: 5 });
  await advance();
  for (let n = 0; n < 10; n++) gateway.publish("project_1", progress(`job_${n}`, n));
  await advance();
  expect(last().events).toHaveLength(5);
});

test("a parent that renders again with the same props does not reconnect, and renders no consumer twice", async () => {
  const { sent, urls, show, frames } = page({ historyLimit: 3 });
  await advance();
  const before = frames.length;
  for (let n = 0; n < 10; n++) show({ historyLimit: 3 });
  await advance(5_000);
  expect(frames.length - before).toBeLessThanOrEqual(10);
  expect(sent).toEqual([subscribe("project_1")]);
  expect(urls).toHaveLength(1);
});

test("options given as undefined count as not given", async () => {
  const { last, urls } = page({ client: undefined, getToken: undefined, historyLimit: undefined });
  await advance();
  expect(last().status).toBe("connected");
  expect(urls).toEqual([GATEWAY_URL]);
});

test("a client of your own is used as it is, and can be shared with code outside of React", async () => {
  const { client, gateway, urls, sent } = noted();
  const shared = client();
  const { Watch, last } = watcher();
  const onChange = vi.fn();
  const store = shared.project("project_1");
  const leave = store.subscribe(onChange);
  const { unmount } = render(
    <ProgressProvider client={shared}>
      <Watch id="project_1" />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(last().jobs).toBe(store.getSnapshot().jobs);
  expect(onChange).toHaveBeenCalled();
  unmount();
  await advance(LINGER_MS);
  expect(gateway.connections, "still watched from outside").toHaveLength(1);
  leave();
  await advance(LINGER_MS);
  expect(gateway.connections).toEqual([]);
  expect(urls).toHaveLength(1);
  expect(sent).toHaveLength(2);
});

test("another client: nothing of the old one is shown, and the old one disconnects", async () => {
  const [one, two] = [noted(), noted()];
  one.gateway.publish("project_1", progress("job_1", 10));
  two.gateway.publish("project_1", progress("job_2", 20));
  const clients = [one.client(), two.client()] as const;
  const { Watch, frames, last } = watcher();
  const element = (n: 0 | 1) => (
    <ProgressProvider client={clients[n]}>
      <Watch id="project_1" />
    </ProgressProvider>
  );
  const { rerender } = render(element(0));
  await advance();
  const before = frames.length;
  rerender(element(1));
  await advance(LINGER_MS);
  for (const { jobs } of frames.slice(before)) expect(jobs).not.toHaveProperty("job_1");
  expect(Object.keys(last().jobs)).toEqual(["job_2"]);
  expect(one.gateway.connections).toEqual([]);
  expect(two.gateway.connections).toHaveLength(1);
});

// More than one

test("the inner one of nested providers is used", async () => {
  const [outer, inner] = [noted(), noted()];
  const [a, b] = [watcher(), watcher()];
  render(
    <ProgressProvider client={outer.client()}>
      <a.Watch id="project_1" />
      <ProgressProvider client={inner.client()}>
        <b.Watch id="project_2" />
      </ProgressProvider>
    </ProgressProvider>,
  );
  await advance();
  expect(outer.sent).toEqual([subscribe("project_1")]);
  expect(inner.sent).toEqual([subscribe("project_2")]);
});

test("two providers are two gateways, each with its own data", async () => {
  const wires = [noted(), noted()] as const;
  const watchers = [watcher(), watcher()] as const;
  render(
    wires.map((wire, n) => {
      const { Watch } = watchers[n]!;
      const url = `ws://gateway-${n}.test/ws`;
      return (
        <ProgressProvider key={url} url={url} webSocketImpl={wire.WebSocket}>
          <Watch id="project_1" />
        </ProgressProvider>
      );
    }),
  );
  await advance();
  wires[0].gateway.publish("project_1", progress("job_1", 10));
  wires[1].gateway.closeAll(4401);
  await advance();
  expect(watchers[0].last()).toMatchObject({ status: "connected", error: null, jobs: { job_1: { percent: 10 } } });
  expect(watchers[1].last()).toMatchObject({ status: "disconnected", error: { code: 4401 }, jobs: {} });
});

test("components in one provider share one socket for all their projects", async () => {
  const { client, urls, sent, gateway } = noted();
  const [a, b] = [watcher(), watcher()];
  render(
    <ProgressProvider client={client()}>
      <a.Watch id="project_1" />
      <section>
        <b.Watch id="project_2" />
        <a.Watch id="project_1" />
      </section>
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_2", progress("job_2", 10));
  await advance();
  expect(urls).toHaveLength(1);
  expect(sent).toEqual([subscribe("project_1"), subscribe("project_2")]);
  expect(a.last().jobs).toEqual({});
  expect(Object.keys(b.last().jobs)).toEqual(["job_2"]);
});
