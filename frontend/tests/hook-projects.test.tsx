/** `useWebSocket`: project ids, those that are none, and those that change. */

import { render } from "@testing-library/react";
import { expect, test } from "vitest";
import { type JobEvent, ProgressProvider } from "../src/index.js";
import {
  advance,
  complete,
  LINGER_MS,
  noted,
  page,
  pageListeners,
  progress,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

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
