/** The gateway and its Redis die, freeze, drain and come back; nobody touches the page. */

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { test } from "./support/lab.js";
import { Network } from "./support/network.js";
import { complete, Publisher, progress, Redis, Replica } from "./support/processes.js";
import { ends, statuses, timesSeen } from "./support/read.js";
import { until } from "./support/wait.js";

test("a gateway that is killed and started again: the page comes back and misses nothing", async ({ lab }) => {
  const { replica, publisher } = await lab.startStack();
  const early = await publisher.publish("p", complete("ended"), progress("runs", 10));
  const page = await lab.open({
    url: replica.url,
    panels: [{ name: "one", projectId: "p" }],
    connection: "connection",
  });
  await page.untilJob("runs", 10);
  const control = await lab.open({ hands: [{ name: "hand", url: replica.url, projectId: "p" }] });
  const byHand = async () => (await control.records()).hands["hand"]?.messages ?? [];
  await until("the page by hand is up to date", async () => (await byHand()).some(({ jobId }) => jobId === "runs"));

  await replica.kill();
  const { result: lost } = await page.untilStatus("disconnected");
  expect(lost).toMatchObject({ isStale: true, error: { code: 1006 }, jobs: { runs: { percent: 10 } } });
  expect(lost?.staleSince).toBeTypeOf("number");

  const late = await publisher.publish("p", progress("runs", 60), complete("missed"), progress("begun", 5));
  expect((await page.panel()).result?.status).not.toBe("connected");
  await replica.start();
  const started = performance.now();
  await page.untilStatus("connected");
  lab.figure(`connected ${Math.round(performance.now() - started)} ms after a killed gateway was ready again`);
  await page.untilJob("begun", 5);
  const [sentinel = 0] = await publisher.publish("p", progress("begun", 6));
  const panel = await page.untilJob("begun", 6);

  expect(panel.result).toMatchObject({ isStale: false, recovered: true, error: null });
  expect(panel.result?.jobs).toMatchObject({
    ended: { status: "complete" },
    runs: { percent: 60 },
    missed: { status: "complete", result: { file: "missed.mp3" } },
  });
  expect(timesSeen(panel, [...early, ...late, sentinel])).toEqual([1, 1, 1, 1, 1, 1]);
  expect(late.map((seq) => panel.events.find((event) => event.seq === seq)?.isReplay)).toEqual([true, true, true]);
  expect(ends(panel)).toEqual(["ended", "missed"]);
  expect(statuses(panel).join()).toMatch(
    /^connecting,connected,disconnected(,connecting,disconnected)*(,connecting)?,connected$/,
  );

  // Control: a page that subscribes without a cursor receives again what it has seen.
  await until("the page by hand is up to date", async () => (await byHand()).some(({ seq }) => seq === sentinel));
  expect((await byHand()).filter(({ jobId }) => jobId === "ended")).toHaveLength(2);
});

test("a Redis that is killed and started again: connected all the time, stale meanwhile", async ({ lab }) => {
  const { redis, replica, publisher } = await lab.startStack();
  await publisher.publish("p", progress("runs", 10), complete("ended"));
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "p" }] });
  await page.untilJob("runs", 10);
  expect((await page.panel()).result).toMatchObject({ status: "connected", isStale: false, staleSince: null });

  await redis.kill({ keep: true });
  const { result: stale } = await page.until("the page is stale", ({ result }) => result?.isStale);
  expect(stale).toMatchObject({ status: "connected", jobs: { runs: { percent: 10 } } });
  expect(stale?.staleSince).toBeTypeOf("number");

  await redis.start();
  const started = performance.now();
  const seqs = await publisher.publish("p", progress("runs", 20), complete("begun"));
  await page.until("the page is current", ({ result }) => !result?.isStale);
  lab.figure(`current ${Math.round(performance.now() - started)} ms after a killed Redis was ready again`);
  await page.untilJob("runs", 20);
  const [sentinel = 0] = await publisher.publish("p", progress("runs", 21));
  const panel = await page.untilJob("runs", 21);
  expect(panel.result).toMatchObject({ isStale: false, staleSince: null, recovered: true, error: null });
  expect(timesSeen(panel, [...seqs, sentinel])).toEqual([1, 1, 1]);
  expect(ends(panel)).toEqual(["begun", "ended"]);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(page.sockets).toHaveLength(1);
});

test("a Redis that comes back empty: what ran is doubted until it is heard of", async ({ lab }) => {
  const { redis, replica, publisher } = await lab.startStack();
  await publisher.publish("p", progress("runs", 40), progress("ends", 80), complete("ended"));
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "p" }] });
  await page.untilJob("ended", 100);

  await redis.kill({ keep: false });
  await page.until("the page is stale", ({ result }) => result?.isStale);
  await redis.start();
  await page.until("the gap is told", ({ result }) => result?.recovered === false);
  // An event of a third job proves that the link works, but the two that ran stay in doubt.
  await until("a new job is accepted", async () => (await publisher.publish("p", progress("new", 1))).length === 1);
  const told = await page.untilJob("new", 1);
  expect(told.result).toMatchObject({ status: "connected", recovered: false, jobs: { runs: { percent: 40 } } });
  expect(told.result?.isStale, "nobody knows how the jobs that ran went on").toBe(true);

  await publisher.publish("p", complete("ends"));
  const half = await page.untilJob("ends", 100);
  expect(half.result?.isStale, "of one job nothing was heard yet").toBe(true);
  await publisher.publish("p", progress("runs", 41));
  const panel = await page.untilJob("runs", 41);
  expect(panel.result).toMatchObject({ isStale: false, recovered: false, jobs: { ended: { status: "complete" } } });
  expect(ends(panel)).toEqual(["ended", "ends"]);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
});

test("a gateway and a Redis that both come back empty: running jobs are in doubt too", async ({ lab }) => {
  const { redis, replica, publisher } = await lab.startStack();
  await publisher.publish("p", progress("runs", 40), complete("ended"));
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "p" }] });
  await page.untilJob("ended", 100);

  await Promise.all([redis.kill({ keep: false }), replica.kill()]);
  await page.untilStatus("disconnected");
  await redis.start();
  await publisher.publish("p", progress("new", 1));
  await replica.start();
  const told = await page.untilJob("new", 1);
  expect(told.result).toMatchObject({ status: "connected", recovered: false, isStale: true });
  expect(told.result?.jobs).toMatchObject({ runs: { percent: 40 }, ended: { status: "complete" } });

  await publisher.publish("p", progress("runs", 50));
  const panel = await page.untilJob("runs", 50);
  expect(panel.result).toMatchObject({ isStale: false, recovered: false });
  expect(ends(panel)).toEqual(["ended"]);
});

test("a Redis that freezes: connected all the time, stale meanwhile", async ({ lab }) => {
  const { redis, replica, publisher } = await lab.startStack();
  await publisher.publish("p", progress("runs", 10));
  const page = await lab.open({ url: replica.url, panels: [{ name: "one", projectId: "p" }] });
  await page.untilJob("runs", 10);
  redis.freeze();
  const frozen = performance.now();
  const { result: stale } = await page.until("the page is stale", ({ result }) => result?.isStale);
  lab.figure(`stale ${Math.round(performance.now() - frozen)} ms after Redis froze`);
  expect(stale).toMatchObject({ status: "connected", jobs: { runs: { percent: 10 } } });
  redis.thaw();
  await page.until("the page is current", ({ result }) => !result?.isStale);
  await publisher.publish("p", complete("runs"));
  const panel = await page.untilJob("runs", 100);
  expect(panel.result).toMatchObject({ isStale: false, recovered: true });
  expect(ends(panel)).toEqual(["runs"]);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(page.sockets).toHaveLength(1);
});

test("a replica that is drained: its page moves to another one and loses nothing", async ({ lab }) => {
  const redis = await lab.own(Redis.start());
  const publisher = await lab.own(new Publisher(redis));
  const [first, second] = await Promise.all([lab.own(Replica.start(redis)), lab.own(Replica.start(redis))]);
  const network = await lab.own(Network.start(first.port, second.port));
  const page = await lab.open({ url: network.url, panels: [{ name: "one", projectId: "p" }] });
  await page.untilStatus("connected");
  expect(await first.metric("gateway_connections")).toBe(1);

  // A job ends every few milliseconds, before, during and after the move.
  let isMoving = true;
  const published: number[] = [];
  const publishing = (async () => {
    for (let i = 0; isMoving; i++) {
      published.push(...(await publisher.publish("p", complete(`job_${i}`))));
      await sleep(10); // slow enough that fewer than 1,000 jobs end: more are not remembered
    }
  })();
  await page.until("events come", ({ events }) => events.length > 5);
  const left = performance.now();
  expect(await first.drain()).toBe(0);
  await until("the page is on the other replica", async () => (await second.metric("gateway_subscriptions")) === 1);
  lab.figure(`on the other replica ${Math.round(performance.now() - left)} ms after SIGTERM`);
  isMoving = false;
  await publishing;
  await publisher.publish("p", progress("last", 1));
  const panel = await page.untilJob("last", 1);
  const times = timesSeen(panel, published);
  expect(published.filter((_, i) => times[i] !== 1)).toEqual([]);
  expect(ends(panel)).toHaveLength(published.length);
  expect(panel.result).toMatchObject({ isStale: false, recovered: true, error: null });
  expect(panel.log.map(({ error }) => error).filter(Boolean)).toEqual([]);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(page.sockets).toHaveLength(2);
});
