/** The hooks on a page, against a gateway that works all the time. */

import { expect } from "vitest";
import { type Stack, test } from "./support/lab.js";
import { Network } from "./support/network.js";
import type { TestPage } from "./support/page.js";
import { complete, progress } from "./support/processes.js";
import { until } from "./support/wait.js";

const BURST = 2_000;

/** The counters of the gateway, after the pages of earlier tests have left it. */
const figures = async ({ replica }: Stack) => ({
  connections: await replica.metric("gateway_connections"),
  subscriptions: await replica.metric("gateway_subscriptions"),
  opened: await replica.metric("gateway_connections_opened_total"),
});

async function idleGateway(stack: Stack): Promise<{ opened: number }> {
  await until("the gateway has no connection", async () => (await figures(stack)).connections === 0);
  return figures(stack);
}

const isSubscribed = ({ type }: { type: string }): boolean => type === "subscribed";

const threeOn = (projectId: string) => ["one", "two", "three"].map((name) => ({ name, projectId }));

test("three hooks in StrictMode are one socket and one subscription at the gateway", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  const { opened } = await idleGateway(stack);
  await publisher.publish("strict", progress("before", 10));
  const page = await lab.open({
    url: replica.url,
    panels: threeOn("strict"),
    jobs: [{ name: "job", projectId: "strict", jobId: "now" }],
    connection: "connection",
  });
  for (const name of ["one", "two", "three"]) await page.untilJob("before", 10, name);
  await publisher.publish("strict", progress("now", 40), complete("now"));
  for (const name of ["one", "two", "three"]) await page.untilJob("now", 100, name);

  expect(page.sockets.map(({ url }) => url)).toEqual([replica.url]);
  expect(page.sockets[0]?.sent).toEqual([{ type: "subscribe", projectId: "strict" }]);
  expect(await figures(stack)).toEqual({ connections: 1, subscriptions: 1, opened: opened + 1 });
  const { panels, values } = await page.records();
  for (const { events, terminals } of Object.values(panels)) {
    expect(events.map(({ jobId, type, isReplay }) => [jobId, type, isReplay])).toEqual([
      ["before", "progress", true],
      ["now", "progress", false],
      ["now", "job_complete", false],
    ]);
    expect(terminals.map(({ job }) => job.jobId)).toEqual(["now"]);
  }
  expect(values["job"]?.value).toMatchObject({ percent: 100, status: "complete", result: { file: "now.mp3" } });
  expect(values["connection"]?.value).toBe("connected");

  // Two of the three leave: the last one keeps the subscription. It leaves too: nothing is left.
  await page.show({ panels: threeOn("strict").slice(2), jobs: [] });
  await publisher.publish("strict", progress("later", 5));
  await page.untilJob("later", 5, "three");
  expect(page.sent("unsubscribe")).toEqual([]);
  await page.show({ panels: [] });
  await until("the socket is closed", () => page.openSockets.length === 0);
  await idleGateway(stack);
  expect(page.sockets).toHaveLength(1);
});

test("control: three sockets opened by hand in StrictMode are six", async ({ lab, stack }) => {
  const { opened } = await idleGateway(stack);
  const hands = ["one", "two", "three"].map((name) => ({ name, url: stack.replica.url, projectId: "strict" }));
  const page = await lab.open({ hands });
  await until("three sockets are left", async () => (await figures(stack)).connections === 3);
  await until("six sockets were seen", () => page.sockets.length === 6);
  expect((await figures(stack)).opened).toBeGreaterThanOrEqual(opened + 3); // the others were left before they were open
});

test("fifty hooks on ten projects are one socket with ten subscriptions", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  const { opened } = await idleGateway(stack);
  const panels = Array.from({ length: 50 }, (_, i) => ({ name: `hook_${i}`, projectId: `many_${i % 10}` }));
  const page = await lab.open({ url: replica.url, panels });
  for (const { name } of panels) await page.untilStatus("connected", name);
  await publisher.publish("many_7", progress("job", 70));
  for (const i of [7, 17, 27, 37, 47]) await page.untilJob("job", 70, `hook_${i}`);
  expect(page.sockets).toHaveLength(1);
  expect(page.sent("subscribe")).toHaveLength(10);
  expect(await figures(stack)).toEqual({ connections: 1, subscriptions: 10, opened: opened + 1 });
  const { panels: seen } = await page.records();
  expect(Object.values(seen).filter(({ events }) => events.length)).toHaveLength(5);
});

test("without a provider the page's own host is asked at /ws", async ({ lab, stack }) => {
  lab.pages.gatewayPort = stack.replica.port; // in this file no other test has its gateway there
  await stack.publisher.publish("default", progress("job", 30));
  const page = await lab.open({ panels: threeOn("default"), connection: "connection" });
  await page.untilJob("job", 30, "three");
  expect(page.sockets.map(({ url }) => url)).toEqual([`ws://${lab.pages.host}/ws`]);
  expect((await page.records()).values["connection"]?.value).toBe("connected");
});

test("a changed project drops the old project's data at once, on the same socket", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  await publisher.publish("first", progress("old", 50));
  await publisher.publish("second", progress("new", 20));
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "first" }] });
  await page.untilJob("old", 50);
  await page.show({ panels: [{ name: "one", projectId: "second" }] });
  const { log } = await page.untilJob("new", 20);
  const since = log.filter(({ projectId }) => projectId === "second");
  expect(since[0]).toMatchObject({ jobs: {}, lastSeq: null, isStale: true });
  for (const { jobs } of since) expect(jobs).not.toHaveProperty("old");
  expect(page.sockets).toHaveLength(1);
  await until("the first project is let go", () => page.sent("unsubscribe").length === 1);
  expect(page.sent("unsubscribe")).toEqual([{ type: "unsubscribe", projectId: "first" }]);

  // An event of the project that was left does not come back by a late message.
  await publisher.publish("first", progress("old", 90));
  await publisher.publish("second", progress("new", 30));
  const { events } = await page.untilJob("new", 30);
  expect(events.map(({ jobId }) => jobId)).toEqual(["old", "new", "new"]);
});

test("a hook that is not enabled is disconnected and opens no socket, until it is enabled", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  await idleGateway(stack);
  await publisher.publish("switched", progress("job", 10));
  const panel = { name: "one", projectId: "switched" };
  const page = await lab.open({ url: replica.url, panels: [{ ...panel, enabled: false }] });
  await page.untilStatus("disconnected");
  expect(page.sockets).toEqual([]);

  await page.show({ panels: [{ ...panel, enabled: true }] });
  await page.untilJob("job", 10);
  expect((await page.panel()).result).toMatchObject({ status: "connected", isStale: false });
  expect(page.sockets).toHaveLength(1);

  await page.show({ panels: [{ ...panel, enabled: false }] });
  const { result } = await page.untilStatus("disconnected");
  expect(result).toMatchObject({ isStale: true, error: null });
  expect(result?.jobs["job"]?.percent).toBe(10); // the last state stays, marked as stale
  await idleGateway(stack);
  await until("the socket is closed", () => page.openSockets.length === 0); // the browser reports it a moment later

  await publisher.publish("switched", progress("job", 60));
  await page.show({ panels: [{ ...panel, enabled: true }] });
  await page.until("the job goes on", ({ result }) => result?.jobs["job"]?.percent === 60 && !result.isStale);
  expect(page.sockets).toHaveLength(2);
});

test("a project id that is null, missing or empty is disconnected and opens no socket", async ({ lab, stack }) => {
  const page = await lab.open({
    url: stack.replica.url,
    panels: [{ name: "null", projectId: null }, { name: "missing" }, { name: "empty", projectId: "" }],
    connection: "connection",
  });
  await page.until("the page is shown", () => true, { name: "empty" });
  await page.show({
    panels: [{ name: "null", projectId: null }, { name: "missing" }, { name: "empty", projectId: "" }],
  });
  const { panels, values } = await page.records();
  for (const { log } of Object.values(panels)) {
    for (const shown of log) expect(shown).toMatchObject({ status: "disconnected", jobs: {}, error: null });
  }
  expect(values["connection"]?.value).toBe("disconnected");

  // And one that becomes known, as that of a page that loads it first.
  await page.show({ panels: [{ name: "null", projectId: "known_later" }] });
  await page.untilStatus("connected", "null");
  expect(page.sockets).toHaveLength(1);
  await page.show({ panels: [{ name: "null", projectId: null }] });
  await page.untilStatus("disconnected", "null");
});

test("a project id that is not valid is an error, and opens no socket", async ({ lab, stack }) => {
  const bad = ["two words", "../etc", "-", "a".repeat(129), "ünï", "__proto__"];
  const panels = bad.map((projectId, i) => ({ name: `bad_${i}`, projectId }));
  const page = await lab.open({ url: stack.replica.url, panels });
  for (const { name, projectId } of panels) {
    const { result } = await page.until(`${projectId} is refused`, ({ result }) => result?.error, { name });
    expect(result).toMatchObject({ status: "disconnected", error: { code: "bad_project_id" } });
  }
  expect(page.sockets).toEqual([]);
});

test("useJob renders when its own job changes, and not for another one", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  await publisher.publish("selected", progress("mine", 1));
  const page = await lab.open({
    url: replica.url,
    panels: [{ name: "one", projectId: "selected" }],
    jobs: [{ name: "mine", projectId: "selected", jobId: "mine" }],
  });
  await page.untilJob("mine", 1);
  const before = (await page.records()).values["mine"]?.commits ?? 0;
  for (let percent = 1; percent <= 20; percent++) {
    await publisher.publish("selected", progress("other", percent));
    await page.untilJob("other", percent);
  }
  expect((await page.records()).values["mine"]?.commits).toBe(before);
  await publisher.publish("selected", progress("mine", 2));
  await page.untilJob("mine", 2);
  const { value, commits } = (await page.records()).values["mine"] ?? {};
  expect({ value, commits }).toMatchObject({ value: { percent: 2 }, commits: before + 1 });
});

/** Counted in the page: reading all events again and again would be slow. */
const untilSeen = (page: TestPage, count: number): Promise<unknown> =>
  until(`${count} events were seen`, () => page.page.evaluate((n) => records.panels["one"]!.events.length >= n, count));

test("2,000 events in a burst all reach onEvent, in order, with few renders", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  const network = await lab.own(Network.start(replica.port));
  const url = network.url;
  const page = await lab.open({
    url,
    panels: [{ name: "one", projectId: "burst" }],
    jobs: [{ name: "job", projectId: "burst", jobId: "job_7" }],
  });
  const byHand = await lab.open({
    hands: [
      { name: "last", url, projectId: "burst", shows: "last" },
      { name: "each", url, projectId: "burst", shows: "each" },
    ],
  });
  await page.untilStatus("connected");
  const handsAreSubscribed = async () =>
    Object.values((await byHand.records()).hands).every(({ messages }) => messages.some(isSubscribed));
  await until("the pages by hand are subscribed", handsAreSubscribed);
  const before = await page.records();
  const events = Array.from({ length: BURST }, (_, i) => progress(`job_${i % 40}`, Math.floor(i / 40)));

  network.hold(); // otherwise a slow machine would spread the burst
  const seqs = await publisher.publish("burst", ...events);
  network.release();
  await untilSeen(page, BURST);
  const panel = await page.untilJob("job_39", BURST / 40 - 1);
  expect(panel.events.map(({ seq }) => seq)).toEqual(seqs);
  const after = await page.records();
  const commits = after.panels["one"]!.commits - before.panels["one"]!.commits;
  const jobCommits = after.values["job"]!.commits - before.values["job"]!.commits;
  lab.figure(`${commits} renders for ${BURST} events in a burst, ${jobCommits} of them of one job in 40`);
  expect(commits).toBeLessThanOrEqual(60);
  expect(jobCommits).toBeLessThanOrEqual(commits);
  expect(after.panels["one"]?.result?.events.map(({ seq }) => seq)).toEqual(seqs.slice(-100));
  expect(after.panels["one"]?.result?.lastEvent?.seq).toBe(seqs.at(-1));
  expect(after.panels["one"]?.log.at(-1)?.jobs).toEqual(
    Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`job_${i}`, BURST / 40 - 1])),
  );

  // Controls: with one state update a message, flushed at once, each renders; batched by React, only some are shown.
  const seenByHand = async () => (await byHand.records()).hands;
  const isDone = async () => Object.values(await seenByHand()).every(({ messages }) => messages.length > BURST);
  await until("the pages by hand have seen the burst", isDone);
  const { each, last } = await seenByHand();
  lab.figure(`${each?.commits} and ${last?.commits} renders by hand, with flushSync and with a usual state`);
  expect(each?.commits).toBeGreaterThanOrEqual(BURST);
});

test("2,000 events as fast as a job publishes them: never more than a render a frame", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "stream" }] });
  await page.untilStatus("connected");
  await page.page.evaluate(() => {
    const count = (): void => {
      document.body.dataset.frames = String(Number(document.body.dataset.frames ?? 0) + 1);
      requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
  });
  const before = (await page.panel()).commits;
  const seqs = await publisher.publish("stream", ...Array.from({ length: BURST }, (_, i) => progress(`job_${i}`, 50)));
  await untilSeen(page, BURST);
  const { events } = await page.panel();
  expect(events.map(({ seq }) => seq)).toEqual(seqs);
  await until("the last is shown", async () => (await page.panel()).result?.lastEvent?.seq === seqs.at(-1));
  const commits = (await page.panel()).commits - before;
  const frames = Number(await page.page.evaluate(() => document.body.dataset.frames));
  lab.figure(`${commits} renders in ${frames} frames for ${BURST} events as fast as a job publishes them`);
  expect(commits).toBeLessThanOrEqual(frames + 1);
});

test("a page that the server rendered is hydrated without a word on the console", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  await publisher.publish("hydrated", progress("job", 50));
  const page = await lab.open(
    {
      url: replica.url,
      panels: [{ name: "one", projectId: "hydrated" }, { name: "none" }],
      jobs: [{ name: "job", projectId: "hydrated", jobId: "job" }],
      connection: "connection",
    },
    { isRendered: true },
  );
  const source = await (await fetch(page.page.url())).text();
  expect(source).toMatch(/<h2>one.*connecting/);
  expect(source).toMatch(/<h2>none.*disconnected/);
  const { log } = await page.untilJob("job", 50);
  expect(log[0]).toMatchObject({ status: "connecting", jobs: {}, isStale: true });
  expect(page.problems).toEqual([]);
  expect(page.sockets).toHaveLength(1);
});

test("control: a page that hydrates differently from the server is noticed", async ({ lab }) => {
  const page = await lab.open({ hasMismatch: true }, { isRendered: true });
  await until("React complains", () => page.problems.some((problem) => /hydrat/i.test(problem)));
  page.problems.length = 0;
});
