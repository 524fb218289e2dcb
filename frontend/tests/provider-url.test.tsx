/** Where the gateway is: the provider's `url`, the `url` option, and neither of them. */

import { render } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { ProgressProvider, useConnectionStatus, useJob } from "../src/index.js";
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

/** The page's own `WebSocket`, for components without a provider; and the page's address. */
function global(address = "https://app.example/projects/1?tab=jobs#top") {
  const wire = noted();
  vi.stubGlobal("WebSocket", wire.WebSocket);
  vi.stubGlobal("location", new URL(address));
  return wire;
}

// The URL

test("the provider says where the gateway is", async () => {
  const { urls, last } = page({ url: "wss://gateway.example/live?v=1" });
  await advance();
  expect(urls).toEqual(["wss://gateway.example/live?v=1"]);
  expect(last().status).toBe("connected");
});

test.each([
  ["https://app.example/projects/1?tab=jobs#top", "wss://app.example/ws"],
  ["http://localhost:8000/", "ws://localhost:8000/ws"],
  ["https://app.example:8443/", "wss://app.example:8443/ws"],
  ["http://https.example/http", "ws://https.example/ws"],
  ["http://[::1]:3000/a", "ws://[::1]:3000/ws"],
])("by default it is on the page's own host: of %s at %s", async (address, url) => {
  const { urls } = global(address);
  const { Watch } = watcher();
  render(<Watch id="project_1" />);
  await advance();
  expect(urls).toEqual([url]);
});

test("a provider without a url uses the default one too", async () => {
  const { tokens, urls } = global();
  const { Watch } = watcher();
  render(
    <ProgressProvider getToken={() => "t"}>
      <Watch id="project_1" />
    </ProgressProvider>,
  );
  await advance();
  expect([urls, tokens()]).toEqual([["wss://app.example/ws"], ["t"]]);
});

test("a url function is called for each connection, always the latest one", async () => {
  const { gateway, urls, show, frames } = page({ url: () => "ws://gateway.test/1" });
  await advance();
  const before = frames.length;
  for (let n = 2; n <= 5; n++) {
    show({ url: () => `ws://gateway.test/${n}` });
    await advance(100);
  }
  expect(urls, "a new function alone reconnects nothing").toEqual(["ws://gateway.test/1"]);
  expect(frames.length - before).toBeLessThanOrEqual(4);
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(urls).toEqual(["ws://gateway.test/1", "ws://gateway.test/5"]);
});

test("a component that is mounted in the same render as a new url or getToken connects with the new ones", async () => {
  const wire = noted();
  const { Watch } = watcher();
  const element = (name: string, hasToken: boolean, isWatched: boolean) => (
    <ProgressProvider
      url={() => `ws://${name}.test/ws`}
      getToken={hasToken ? () => name : undefined}
      webSocketImpl={wire.WebSocket}
    >
      {isWatched && <Watch id="project_1" />}
    </ProgressProvider>
  );
  for (const hasToken of [false, true]) {
    const { rerender, unmount } = render(element("old", hasToken, false));
    rerender(element("new", hasToken, true));
    await advance();
    unmount();
  }
  expect(wire.urls).toEqual(["ws://new.test/ws", "ws://new.test/ws"]);
  expect(wire.tokens()).toEqual(["new"]);
});

test.each([
  [
    "throws",
    () => () => {
      throw new Error("No config yet");
    },
  ],
  ["gives none", () => () => "not a url"],
])("a url that %s is an error and is tried again, and does not break the page", async (_, make) => {
  const wire = noted();
  // A browser throws for an invalid URL; the fake accepts any.
  class Strict extends wire.WebSocket {
    constructor(url: string | URL) {
      if (!/^wss?:/.test(String(url))) throw new SyntaxError(`The URL '${url}' is invalid.`);
      super(url);
    }
  }
  const { last, show } = page({ url: make(), webSocketImpl: Strict }, wire);
  await advance();
  expect(last()).toMatchObject({ status: "disconnected", retryAt: expect.any(Number) });
  expect(last().error?.message).toEqual(expect.any(String));
  show({ url: () => GATEWAY_URL, webSocketImpl: Strict });
  await advance(RETRY_MS);
  expect(last()).toMatchObject({ status: "connected", error: null });
});

test("without any WebSocket class there is an error, and the page does not break", async () => {
  global();
  vi.stubGlobal("WebSocket", undefined);
  const { Watch, last } = watcher();
  render(<Watch id="project_1" />);
  await advance();
  expect(last()).toMatchObject({ status: "disconnected", error: { code: "cannot_connect" }, retryAt: null });
  expect(last().error?.message).toContain("not a constructor");
});

test("another url: the new gateway is asked, nothing of the old one is shown, and the old socket closes", async () => {
  const old = noted();
  const { Watch, frames, last } = watcher();
  const other = noted();
  old.gateway.publish("project_1", progress("job_old", 10));
  other.gateway.publish("project_1", progress("job_new", 20));
  const element = (url: string, { WebSocket: webSocketImpl }: ReturnType<typeof noted>) => (
    <ProgressProvider url={url} webSocketImpl={webSocketImpl}>
      <Watch id="project_1" />
    </ProgressProvider>
  );
  const { rerender } = render(element("ws://old.test/ws", old));
  await advance();
  expect(last().jobs).toHaveProperty("job_old");
  const before = frames.length;
  rerender(element("ws://new.test/ws", other));
  await advance(LINGER_MS);
  for (const { jobs } of frames.slice(before)) expect(jobs).not.toHaveProperty("job_old");
  expect(last().jobs).toHaveProperty("job_new");
  expect(other.urls).toEqual(["ws://new.test/ws"]);
  expect(old.gateway.connections).toEqual([]);
});

test("another url alone: its gateway is asked, and the old socket closes after the linger", async () => {
  const { gateway, show, urls, last } = page({ url: "ws://one.test/ws" });
  await advance();
  show({ url: "ws://two.test/ws" });
  await advance();
  expect(urls).toEqual(["ws://one.test/ws", "ws://two.test/ws"]);
  expect(last().status).toBe("connected");
  await advance(LINGER_MS);
  expect(gateway.connections.map(({ url }) => url)).toEqual(["ws://two.test/ws"]);
});

// The `url` option

test("without a provider, components share one socket for each url", async () => {
  const { urls, sent } = global();
  const { Watch, last } = watcher();
  const Others = () => (
    <>
      {useJob("project_1", "job_1", { url: "ws://one.test/ws" })?.percent}
      {useConnectionStatus({ url: "ws://one.test/ws" })}
    </>
  );
  const { container } = render(
    <>
      <Others />
      <Watch id="project_1" url="ws://one.test/ws" />
      <Watch id="project_1" url="ws://one.test/ws" />
      <Watch id="project_2" url="ws://one.test/ws" />
      <Watch id="project_1" url="ws://two.test/ws" />
    </>,
  );
  await advance();
  expect(urls).toEqual(["ws://one.test/ws", "ws://two.test/ws"]);
  expect(sent).toHaveLength(3);
  expect(last().status).toBe("connected");
  expect(container.textContent).toContain("connected");
});

test("separate roots on one page share the socket too", async () => {
  const { urls, sent } = global();
  const { Watch } = watcher();
  render(<Watch id="project_1" />);
  render(<Watch id="project_1" />);
  await advance();
  expect(urls).toEqual(["wss://app.example/ws"]);
  expect(sent).toEqual([subscribe("project_1")]);
});

test("the url option is used instead of the provider's", async () => {
  const outside = global();
  const provided = noted();
  const { Watch } = watcher();
  render(
    <ProgressProvider client={provided.client()}>
      <Watch id="project_1" url="ws://other.test/ws" />
    </ProgressProvider>,
  );
  await advance();
  expect(outside.urls).toEqual(["ws://other.test/ws"]);
  expect(provided.urls).toEqual([]);
});

test("a url option that changes: the other gateway is asked, the old data is gone in the first render", async () => {
  const { urls, gateway } = global();
  const { Watch, frames } = watcher();
  const { rerender } = render(<Watch id="project_1" url="ws://one.test/ws" />);
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  const before = frames.length;
  rerender(<Watch id="project_1" url="ws://two.test/ws" />);
  expect(frames[before]).toMatchObject({ jobs: {}, events: [], status: "connecting" });
  await advance(LINGER_MS);
  expect(urls).toEqual(["ws://one.test/ws", "ws://two.test/ws"]);
  expect(gateway.connections.map(({ url }) => url)).toEqual(["ws://two.test/ws"]);
});

test("after all have left, the next component connects anew, to the url of that moment", async () => {
  const first = global();
  const { Watch, last } = watcher();
  const { unmount } = render(<Watch id="project_1" />);
  await advance();
  unmount();
  await advance(LINGER_MS);
  expect(first.gateway.connections).toEqual([]);
  const second = global("http://other.example/");
  render(<Watch id="project_1" />);
  await advance();
  expect(second.urls).toEqual(["ws://other.example/ws"]);
  expect(last().status).toBe("connected");
});
