/** Shared by the tests of the React side: a gateway that records what it receives, a clock, and a component that records
 * what it renders. */

import { cleanup, render } from "@testing-library/react";
import { type ReactNode, StrictMode } from "react";
import { afterEach, beforeEach, expect, vi } from "vitest";
import {
  ProgressProvider,
  type ProgressProviderProps,
  useWebSocket,
  valuesOf,
  type WebSocketOptions,
  type WebSocketResult,
} from "../src/index.js";
import type { ClientMessage } from "../src/messages.js";
import { FakeGateway, type PublishedEvent } from "../src/testing.js";

export const GATEWAY_URL = "ws://gateway.test/ws";

/** A little more than a frame of the screen, which takes 16 ms. */
export const FRAME_MS = 20;
/** The linger of 1 s, with the frame after it and the timer that stands in for frames in hidden tabs. */
export const LINGER_MS = 1_200;
/** More than the first back-off of 0.5 to 1 s. */
export const RETRY_MS = 1_100;

/** A fake gateway, and a record of all that its clients did, also on sockets that are closed now. */
export function noted() {
  const gateway = new FakeGateway();
  const sent: ClientMessage[] = [];
  const urls: string[] = [];
  class NotedSocket extends gateway.WebSocket {
    constructor(url: string | URL) {
      super(url);
      urls.push(String(url));
    }
    override send(data: Parameters<WebSocket["send"]>[0]): void {
      sent.push(JSON.parse(String(data)) as ClientMessage);
      super.send(data);
    }
  }
  return {
    gateway,
    /** Each message of each client, in order. */
    sent,
    /** The tokens that were shown, in order. */
    tokens: () => sent.flatMap((message: { type: string; token?: string }) => message.token ?? []),
    /** The URL of each socket that was ever made, in order. */
    urls,
    WebSocket: NotedSocket,
    client: (options: Parameters<FakeGateway["client"]>[0] = {}) =>
      gateway.client({ webSocketImpl: NotedSocket, ...options }),
  };
}

export const subscribe = (projectId: string) => ({ type: "subscribe", projectId });
export const unsubscribe = (projectId: string) => ({ type: "unsubscribe", projectId });

export const progress = (jobId: string, percent: number): PublishedEvent => ({
  type: "progress",
  jobId,
  jobType: "audio",
  progress: percent,
});

export const complete = (jobId: string): PublishedEvent => ({
  type: "job_complete",
  jobId,
  jobType: "audio",
  result: { file: `${jobId}.mp3` },
});

/** A component that watches a project and records the result of each render. */
export function watcher() {
  const frames: (WebSocketResult & { id: string | null | undefined })[] = [];
  const results: WebSocketResult[] = [];
  const Watch = ({ id, ...options }: { id: string | null | undefined } & WebSocketOptions) => {
    const result = useWebSocket(id, options);
    results.push(result);
    frames.push({ ...result, id });
    return (
      <output>
        {result.status} {valuesOf(result.jobs).map(({ jobId, percent }) => `${jobId}: ${percent} %`)}
      </output>
    );
  };
  return {
    Watch,
    /** The result of each render, and its project id. */
    frames,
    /** The result objects themselves. */
    results,
    last: () => frames.at(-1)!,
    /** The status values that were seen, each change once. */
    statuses: () => frames.map(({ status }) => status).filter((status, n, all) => status !== all[n - 1]),
  };
}

/** A page that watches one project, and may be given other options at any time. */
export function page(id: string | null | undefined, options: WebSocketOptions = {}, clientOptions = {}) {
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

/** Each connection takes its time: `getToken` is asked for each, since it gives none. */
export const SLOW_TOKEN = { getToken: () => new Promise<undefined>((resolve) => setTimeout(resolve, 100)) };

/** A page in a provider, whose props may change at any time. */
export function providerPage(props: Partial<ProgressProviderProps>, wire = noted()) {
  const watch = watcher();
  const element = (newProps: typeof props) => (
    <ProgressProvider url={GATEWAY_URL} webSocketImpl={wire.WebSocket} {...newProps}>
      <watch.Watch id="project_1" />
    </ProgressProvider>
  );
  const { rerender, ...rest } = render(element(props));
  return { ...wire, ...watch, ...rest, show: (newProps: typeof props) => rerender(element(newProps)) };
}

/** Something in a provider, in StrictMode. */
export const strict = (children: ReactNode, wire: ReturnType<typeof noted>) => (
  <StrictMode>
    <ProgressProvider url={GATEWAY_URL} webSocketImpl={wire.WebSocket}>
      {children}
    </ProgressProvider>
  </StrictMode>
);

const PAGE_EVENTS = ["online", "offline", "pageshow", "visibilitychange"];
const listening: string[] = [];

/** The present listeners of the page for events that wake a client, by type. */
export const pageListeners = (): readonly string[] => listening;

/** Let time pass; without `act`, so that React renders as in a browser and renders can be counted. */
export const advance = (ms = FRAME_MS) => vi.advanceTimersByTimeAsync(ms);

/** Fake time for each test of a file. After each test, no timer and no listener may be left. */
export function withClock() {
  beforeEach(() => {
    // All but the functions that React's scheduler uses.
    vi.useFakeTimers({
      toFake: [
        "setTimeout",
        "clearTimeout",
        "setInterval",
        "clearInterval",
        "requestAnimationFrame",
        "cancelAnimationFrame",
        "Date",
      ],
    });
    listening.length = 0;
    const { addEventListener: add, removeEventListener: remove } = globalThis;
    const added = new Map<string, Set<unknown>>(PAGE_EVENTS.map((type) => [type, new Set()]));
    const note = () => {
      listening.length = 0;
      for (const [type, listeners] of added) for (const _ of listeners) listening.push(type);
    };
    vi.stubGlobal("addEventListener", (...args: Parameters<typeof add>) => {
      added.get(args[0])?.add(args[1]);
      note();
      add(...args);
    });
    vi.stubGlobal("removeEventListener", (...args: Parameters<typeof remove>) => {
      added.get(args[0])?.delete(args[1]);
      note();
      remove(...args);
    });
  });

  afterEach(async () => {
    try {
      cleanup();
      if (!vi.isFakeTimers()) return; // a test with real time cleans up itself
      await advance(LINGER_MS);
      expect(vi.getTimerCount(), "timers that are left").toBe(0);
      expect(pageListeners(), "listeners that are left").toEqual([]);
    } finally {
      vi.useRealTimers();
      vi.unstubAllGlobals();
    }
  });
}
