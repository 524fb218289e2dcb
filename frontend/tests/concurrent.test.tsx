/** Concurrent React: hidden trees, suspended trees, renders in slices. */

import { act, render } from "@testing-library/react";
import { Activity, Suspense, startTransition, use, useLayoutEffect, useState } from "react";
import { expect, test, vi } from "vitest";
import { ProgressProvider, type Snapshot, useJob, useWebSocket } from "../src/index.js";
import {
  advance,
  LINGER_MS,
  noted,
  pageListeners,
  progress,
  strict,
  subscribe,
  watcher,
  withClock,
} from "./react-support.js";

/** What waits for React's own scheduler takes real time. This ends a test that hangs, on a machine that runs other work too. */
const PATIENCE_MS = 30_000;

withClock();

// Trees that are hidden or not yet there

test("Activity: a hidden tree leaves after the linger; shown again it is connected and current", async () => {
  const wire = noted();
  const { Watch, last } = watcher();
  const element = (mode: "visible" | "hidden") =>
    strict(
      <Activity mode={mode}>
        <Watch id="project_1" />
      </Activity>,
      wire,
    );
  const { rerender, container } = render(element("visible"));
  await advance();
  wire.gateway.publish("project_1", progress("job_1", 10));
  await advance();
  rerender(element("hidden"));
  await advance(500);
  rerender(element("visible"));
  await advance(LINGER_MS);
  expect(wire.sent, "hidden for a moment").toEqual([subscribe("project_1")]);
  rerender(element("hidden"));
  await advance(LINGER_MS);
  expect(wire.gateway.connections).toEqual([]);
  wire.gateway.publish("project_1", progress("job_1", 70));
  rerender(element("visible"));
  await advance();
  expect(last()).toMatchObject({ status: "connected", isStale: false, jobs: { job_1: { percent: 70 } } });
  expect(container.textContent).toContain("job_1: 70 %");
});

test("Activity: a tree that is hidden at first connects nothing until it is shown", async () => {
  const wire = noted();
  const { Watch, last } = watcher();
  const element = (mode: "visible" | "hidden") =>
    strict(
      <Activity mode={mode}>
        <Watch id="project_1" />
      </Activity>,
      wire,
    );
  const { rerender } = render(element("hidden"));
  await advance(5_000);
  expect(wire.urls).toEqual([]);
  rerender(element("visible"));
  await advance();
  expect(last().status).toBe("connected");
  expect(wire.sent).toEqual([subscribe("project_1")]);
});

test("Suspense: a component that never came to be mounted leaves nothing", async () => {
  const wire = noted();
  const never = new Promise<string>(() => {});
  const Waits = () => {
    useWebSocket("project_1");
    useJob("project_1", "job_1");
    return use(never);
  };
  const element = (
    <Suspense fallback="later">
      <Waits />
    </Suspense>
  );
  const { container } = await act(async () => render(strict(element, wire)));
  expect(container.textContent).toBe("later");
  await advance(5_000);
  expect(wire.urls).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
  expect(pageListeners()).toEqual([]);
});

test("Suspense: a component that waits for something else meanwhile stays connected", async () => {
  const wire = noted();
  const { Watch, last } = watcher();
  let resolve: (text: string) => void = () => {};
  const data = new Promise<string>((done) => (resolve = done));
  const Waits = ({ isWaiting }: { isWaiting: boolean }) => (isWaiting ? use(data) : "at rest");
  const element = (isWaiting: boolean) =>
    strict(
      <Suspense fallback="later">
        <Watch id="project_1" />
        <Waits isWaiting={isWaiting} />
      </Suspense>,
      wire,
    );
  const { rerender, container } = render(element(false));
  await advance();
  await act(async () => rerender(element(true)));
  expect(container.textContent).toContain("later");
  await advance(LINGER_MS);
  wire.gateway.publish("project_1", progress("job_1", 30));
  await advance();
  resolve("loaded");
  await vi.waitFor(() => expect(container.textContent).toContain("loaded"), PATIENCE_MS);
  await advance();
  expect(last()).toMatchObject({ status: "connected", jobs: { job_1: { percent: 30 } } });
  expect(wire.urls).toHaveLength(1);
});

test("a render that throws leaves nothing", async () => {
  const wire = noted();
  vi.spyOn(console, "error").mockImplementation(() => {});
  const Breaks = () => {
    useWebSocket("project_1");
    throw new Error("My own mistake");
  };
  expect(() => render(strict(<Breaks />, wire))).toThrow("My own mistake");
  await advance(5_000);
  expect(wire.urls).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

// Renders in slices

const wait = (ms: number) => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};

// From 0 rows, no component that is there already makes React begin anew when the store changes between two slices.
test.each([0, 2])(
  "no tearing: all components show one snapshot, also where a transition from %i rows renders in slices",
  async (few) => {
    // React's own scheduler runs on real time: a slice is 5 ms.
    vi.useRealTimers();
    const { client, gateway } = noted();
    const shared = client();
    const shown = new Map<string, Snapshot["jobs"]>();
    const torn: number[] = [];
    let commits = 0;
    let renders = 0;

    const Slow = ({ name }: { name: string }) => {
      const { jobs } = useWebSocket("project_1");
      const percent = useJob("project_1", "job_1")?.percent;
      renders++;
      wait(2);
      useLayoutEffect(() => {
        shown.set(name, jobs);
        return () => void shown.delete(name);
      });
      expect(percent).toBe(jobs["job_1"]?.percent);
      return <output>{percent}</output>;
    };
    const addRows = { current: (_: number) => {} };
    const List = () => {
      const [rows, setRows] = useState(few);
      addRows.current = (count) => startTransition(() => setRows(count));
      return Array.from({ length: rows }, (_, n) => <Slow key={n} name={`row ${n}`} />);
    };
    const { container, unmount } = render(
      <ProgressProvider client={shared}>
        <List />
      </ProgressProvider>,
    );
    const observer = new MutationObserver(() => {
      commits++;
      torn.push(new Set(shown.values()).size);
      torn.push(new Set([...container.querySelectorAll("output")].map((row) => row.textContent)).size);
    });
    observer.observe(container, { childList: true, characterData: true, subtree: true });
    const leave = shared.project("project_1").subscribe(() => {});
    gateway.publish("project_1", progress("job_1", 0));
    await vi.waitFor(() => expect(shared.project("project_1").getSnapshot().jobs).toHaveProperty("job_1"), PATIENCE_MS);
    await vi.waitFor(() => expect(container.textContent).toBe("0".repeat(few)), PATIENCE_MS);

    addRows.current(40); // 80 ms of rendering, in which events come
    let slices = 0;
    for (let percent = 1; percent <= 12; percent++) {
      const before = renders;
      gateway.publish("project_1", progress("job_1", percent));
      await new Promise((resolve) => setTimeout(resolve, 9));
      if (renders > before) slices++;
    }
    await vi.waitFor(() => expect(container.textContent).toBe("12".repeat(40)), PATIENCE_MS);
    observer.disconnect();
    expect(slices, "the transition was cut into slices").toBeGreaterThan(2);
    expect(commits).toBeGreaterThan(0);
    expect(new Set(torn)).toEqual(new Set([1]));
    unmount();
    leave();
    await vi.waitFor(() => expect(gateway.connections).toEqual([]), PATIENCE_MS);
  },
);

test("a transition to another project shows the old one's data, or the new one's, never a mixture", async () => {
  const wire = noted();
  wire.gateway.publish("project_a", progress("job_a", 10));
  wire.gateway.publish("project_b", progress("job_b", 20));
  const { Watch, frames } = watcher();
  const change = { current: (_: string) => {} };
  const Choice = () => {
    const [id, setId] = useState("project_a");
    change.current = (newId) => startTransition(() => setId(newId));
    return (
      <>
        <Watch id={id} />
        <Watch id={id} />
      </>
    );
  };
  const { container } = render(strict(<Choice />, wire));
  await advance();
  change.current("project_b");
  await vi.waitFor(() => expect(frames.at(-1)!.id).toBe("project_b"), PATIENCE_MS);
  await advance();
  for (const { id, jobs } of frames) {
    expect(jobs).not.toHaveProperty(id === "project_a" ? "job_b" : "job_a");
  }
  expect(container.textContent).toBe("connected job_b: 20 %connected job_b: 20 %");
});
