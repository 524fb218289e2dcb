/** Rendering on a server, and hydration in the page. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { act } from "@testing-library/react";
import { type ReactNode, Suspense } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToPipeableStream, renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ProgressClient, WebSocketOptions, WebSocketResult } from "../src/index.js";
import * as library from "../src/index.js";
import { valuesOf } from "../src/state.js";
import { advance, complete, LINGER_MS, noted, progress, subscribe, withClock } from "./react-support.js";

const snapshots = vi.hoisted(() => ({ server: [] as (() => unknown)[] }));

// The server snapshot is visible only where it is passed to React.
vi.mock("react", async (importOriginal) => {
  const react = await importOriginal<typeof import("react")>();
  const useSyncExternalStore: typeof react.useSyncExternalStore = (subscribe, get, getOnServer) => {
    if (getOnServer) snapshots.server.push(getOnServer);
    return react.useSyncExternalStore(subscribe, get, getOnServer);
  };
  return { ...react, useSyncExternalStore };
});

withClock();

const results: WebSocketResult[] = [];
const undo: (() => Promise<void>)[] = [];

beforeEach(() => {
  results.length = 0;
  snapshots.server.length = 0;
  vi.spyOn(console, "error");
  vi.spyOn(console, "warn");
});

afterEach(async () => {
  for (const step of undo.splice(0)) await step();
});

type PageProps = { id?: string | null } & WebSocketOptions;

type Hooks = Pick<typeof library, "useConnectionStatus" | "useJob" | "useWebSocket">;

const pageOf = ({ useConnectionStatus, useJob, useWebSocket }: Hooks) =>
  function Page({ id = "project_1", ...options }: PageProps) {
    const result = useWebSocket(id, options);
    const job = useJob(id, "job_1");
    const connection = useConnectionStatus();
    results.push(result);
    return (
      <main>
        <p>{`project ${result.status}`}</p>
        <p>{`connection ${connection}`}</p>
        <p>{result.isStale ? "stale" : "current"}</p>
        <p>{job ? `${job.percent} %` : "unknown"}</p>
        <ul>
          {valuesOf(result.jobs).map(({ jobId, percent }) => (
            <li key={jobId}>{`${jobId} ${percent} %`}</li>
          ))}
        </ul>
      </main>
    );
  };

const { ProgressProvider } = library;
const Page = pageOf(library);

const inside = (client: ProgressClient, children: ReactNode) => (
  <ProgressProvider client={client}>{children}</ProgressProvider>
);

/** Globals that a server does not have. */
const BROWSER_ONLY = [
  "WebSocket",
  "location",
  "document",
  "navigator",
  "requestAnimationFrame",
  "addEventListener",
  "removeEventListener",
  "window",
];

/** Call it as on a server, where there is no page. */
function onServer<T>(call: () => T): T {
  const descriptors = BROWSER_ONLY.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  for (const name of BROWSER_ONLY) Reflect.deleteProperty(globalThis, name);
  try {
    for (const name of BROWSER_ONLY) expect(name in globalThis, name).toBe(false);
    return call();
  } finally {
    for (const [name, descriptor] of descriptors) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
}

/** Hydrate what a server rendered, and unmount it at the end of the test. */
async function hydrate(html: string, element: ReactNode) {
  const container = document.createElement("div");
  container.innerHTML = html;
  document.body.append(container);
  const server = container.querySelector("main");
  const onRecoverableError = vi.fn();
  const root = await act(async () => hydrateRoot(container, element, { onRecoverableError }));
  const unmount = () => act(async () => root.unmount());
  undo.push(async () => {
    await unmount();
    container.remove();
  });
  return { container, onRecoverableError, unmount, isSameElement: () => container.querySelector("main") === server };
}

function expectNoWarning() {
  expect(vi.mocked(console.error).mock.calls).toEqual([]);
  expect(vi.mocked(console.warn).mock.calls).toEqual([]);
}

test("on a server a page is rendered without a socket, a timer or a listener", async () => {
  const html = onServer(() =>
    renderToString(
      <ProgressProvider url={() => location.href} getToken={() => localStorage["token"]}>
        <Page />
      </ProgressProvider>,
    ),
  );
  expect(html).toContain("<p>project connecting</p>");
  expect(html).toContain("<p>stale</p>");
  expect(html).toContain("<p>unknown</p>");
  expect(results[0]).toMatchObject({ jobs: {}, events: [], lastEvent: null, error: null, retryAt: null });
  expect(vi.getTimerCount()).toBe(0);
  expectNoWarning();
});

test("on a server without a provider too", () => {
  expect(onServer(() => renderToString(<Page />))).toContain("connecting");
  expect(vi.getTimerCount()).toBe(0);
  expectNoWarning();
});

test("the package can be imported where there is no page", async () => {
  vi.resetModules();
  const imported = await onServer(() => import("../src/index.js"));
  expect(imported.useWebSocket).toBeTypeOf("function");
});

test("the server's snapshot is one frozen object, whichever component, request or project", () => {
  const { client } = noted();
  for (const id of ["project_1", "project_2"]) renderToString(inside(client(), <Page id={id} />));
  const given = snapshots.server.map((get) => get()).filter((snapshot) => typeof snapshot === "object");
  expect(given).toHaveLength(2);
  const [snapshot] = given as WebSocketResult[];
  expect(given[1]).toBe(snapshot);
  expect(snapshot).toMatchObject({ status: "connecting", jobs: {}, events: [], lastEvent: null, isStale: true });
  for (const part of [snapshot, snapshot?.jobs, snapshot?.events]) expect(part).toSatisfy(Object.isFrozen);
});

test("every store that is read on a server has a snapshot there that is cached", () => {
  renderToString(inside(noted().client(), <Page />));
  expect(snapshots.server).toHaveLength(3);
  for (const get of snapshots.server) expect(get()).toBe(get());
});

test("a server renders the same for everybody, even if a client is connected there", async () => {
  const { client, gateway } = noted();
  const shared = client();
  gateway.publish("project_1", progress("job_1", 40));
  const leave = shared.project("project_1").subscribe(() => {});
  await advance();
  expect(shared.project("project_1").getSnapshot().jobs).toHaveProperty("job_1");
  const html = renderToString(inside(shared, <Page />));
  expect(html).not.toContain("job_1");
  expect(html).not.toContain("40");
  leave();
});

test.each([null, ""])("projectId %j is disconnected on a server too, and hydrates", async (id) => {
  const { client, urls } = noted();
  const element = inside(client(), <Page id={id} />);
  const html = renderToString(element);
  expect(html).toContain("<p>project disconnected</p>");
  const { onRecoverableError, unmount, container } = await hydrate(html, element);
  expect(container.textContent).toContain("project disconnected");
  expect(onRecoverableError).not.toHaveBeenCalled();
  expect(urls).toEqual([]);
  await unmount();
  expectNoWarning();
});

test("enabled false is disconnected on a server too, and hydrates", async () => {
  const element = inside(noted().client(), <Page enabled={false} />);
  const html = renderToString(element);
  expect(html).toContain("<p>project disconnected</p>");
  const { onRecoverableError, unmount, container } = await hydrate(html, element);
  expect(container.textContent).toContain("project disconnected");
  expect(onRecoverableError).not.toHaveBeenCalled();
  await unmount();
  expectNoWarning();
});

test("a page hydrates without a warning, and then connects", async () => {
  const { client, gateway, sent } = noted();
  gateway.publish("project_1", progress("job_1", 40));
  const element = inside(client(), <Page />);
  const html = renderToString(element);
  const { container, onRecoverableError, unmount, isSameElement } = await hydrate(html, element);
  await advance();
  expect(container.textContent).toContain("project connected");
  expect(container.textContent).toContain("job_1 40 %");
  expect(isSameElement(), "the server's elements were kept").toBe(true);
  expect(onRecoverableError).not.toHaveBeenCalled();
  expect(sent).toEqual([subscribe("project_1")]);
  await unmount();
  await advance(LINGER_MS);
  expect(gateway.connections).toEqual([]);
  expectNoWarning();
});

test("a page hydrates without a warning while its client is connected already and has jobs to show", async () => {
  const { client, gateway, sent } = noted();
  const shared = client();
  const element = inside(shared, <Page />);
  const html = renderToString(element);
  gateway.publish("project_1", complete("job_1"));
  const leave = shared.project("project_1").subscribe(() => {});
  await advance();
  expect(shared.getStatus()).toBe("connected");
  results.length = 0;
  const { container, onRecoverableError, unmount, isSameElement } = await hydrate(html, element);
  expect(results[0], "while hydrating, as on the server").toMatchObject({ status: "connecting", jobs: {} });
  expect(container.textContent).toContain("project connected");
  expect(container.textContent).toContain("connection connected");
  expect(container.textContent).toContain("job_1 100 %");
  expect(isSameElement()).toBe(true);
  expect(onRecoverableError).not.toHaveBeenCalled();
  expect(sent).toEqual([subscribe("project_1")]);
  await unmount();
  leave();
  expectNoWarning();
});

test("a page that is streamed and hydrated in parts causes no warning and one subscription", async () => {
  // A server has a copy of its own; React warns when a stream and a page share a context.
  vi.resetModules();
  const { ProgressProvider: ServersProvider, ...servers } = await import("../src/index.js");
  const ServersPage = pageOf(servers);
  const { client, gateway, sent, urls } = noted();
  gateway.publish("project_1", progress("job_1", 40));
  const shared = client();
  const element = (Provider: typeof ProgressProvider, Content: typeof Page) => (
    <Provider client={shared}>
      <Content />
      <Suspense fallback={<p>later</p>}>
        <Content />
      </Suspense>
    </Provider>
  );
  const html = await new Promise<string>((resolve, reject) => {
    const { pipe } = renderToPipeableStream(element(ServersProvider, ServersPage), {
      onAllReady: () => resolve(text(pipe(new PassThrough()))),
      onError: reject,
    });
  });
  expect(html.match(/project connecting/g)).toHaveLength(2);
  const { container, onRecoverableError, unmount } = await hydrate(html, element(ProgressProvider, Page));
  await advance();
  expect(container.textContent?.match(/project connected/g)).toHaveLength(2);
  expect(container.textContent?.match(/job_1 40 %/g)).toHaveLength(2);
  expect(onRecoverableError).not.toHaveBeenCalled();
  expect(urls).toHaveLength(1);
  expect(sent).toEqual([subscribe("project_1")]);
  await unmount();
  expectNoWarning();
});

test("a server component can read the constants: only the hooks are for client components", async () => {
  const read = (name: string) => readFileSync(join(import.meta.dirname, "../src", name), "utf8");
  expect(read("hooks.tsx")).toMatch(/^"use client";/);
  for (const name of ["index.ts", "core.ts", "codes.ts"]) expect(read(name), name).not.toContain("use client");
  expect((await import("../src/index.js")).CloseCode.NOT_AUTHORISED).toBe(4401);
});
