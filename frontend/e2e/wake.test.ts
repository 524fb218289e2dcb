/** The machine sleeps, the tab is hidden or frozen, the network is lost: sockets that look open are not trusted. */

import { expect } from "vitest";
import { test as bare } from "./support/lab.js";
import { Network } from "./support/network.js";
import type { TestPage } from "./support/page.js";
import { complete, progress } from "./support/processes.js";
import { ends, statuses } from "./support/read.js";
import { until } from "./support/wait.js";

// Without its wake a client finds a dead link after 25 s of silence and 5 s without an answer.
const WITHOUT_WAKE_MS = 25_000;
/** Of a back-off: more than a slow machine needs to connect. */
const LONG_MS = 5_500;

// A jump of the clock by more than 5 s means sleep; more than a second is added for a slow machine.
const SLEEP_MS = 6_500;

const test = bare.extend("network", async ({ lab, stack }) => lab.own(Network.start(stack.replica.port)));

const oneOn = (network: Network, projectId: string) => ({ url: network.url, panels: [{ name: "one", projectId }] });

/** Wait until a second has passed since the page was loaded: two wakes within a second count as one. */
const settled = (page: TestPage): Promise<unknown> =>
  until("the page is a while old", () => page.page.evaluate(() => performance.now() > 1_500));

const isHidden = (page: TestPage): Promise<boolean> => page.page.evaluate(() => document.hidden);

const pongs = (page: TestPage): number =>
  page.sockets.flatMap(({ received }) => received.filter((text) => text.includes('"pong"'))).length;

test("a hidden tab goes on, and its socket is probed when it is shown again", async ({ lab, stack, network }) => {
  const page = await lab.openTab(oneOn(network, "hidden"));
  await page.untilStatus("connected");
  const other = await lab.openTab({});
  await other.page.bringToFront();
  await until("the tab is hidden", () => isHidden(page));
  await settled(page);
  await stack.publisher.publish("hidden", progress("job", 40));
  await page.untilJob("job", 40);
  const asked = page.sent("ping").length;
  const answered = pongs(page);

  await page.page.bringToFront();
  await until("the socket is probed", () => page.sent("ping").length > asked);
  await until("the gateway answers", () => pongs(page) > answered);
  await stack.publisher.publish("hidden", complete("job"));
  expect(statuses(await page.untilJob("job", 100))).toEqual(["connecting", "connected"]);
  expect(page.sockets).toHaveLength(1);
});

test("a tab that the browser froze is current soon after it is shown again", async ({ lab, stack, network }) => {
  const page = await lab.openTab(oneOn(network, "frozen"));
  await stack.publisher.publish("frozen", progress("job", 10));
  await page.untilJob("job", 10);
  const other = await lab.openTab({});
  await other.page.bringToFront();
  await until("the tab is hidden", () => isHidden(page));
  await settled(page);
  const session = await page.page.context().newCDPSession(page.page);
  await page.page.evaluate(() => {
    document.addEventListener("freeze", () => document.documentElement.classList.add("was-frozen"));
  });
  await session.send("Page.setWebLifecycleState", { state: "frozen" });
  await until("it is frozen", () => page.page.evaluate(() => document.documentElement.className === "was-frozen"));
  await stack.publisher.publish("frozen", progress("job", 20), complete("job"));
  expect((await page.panel()).result?.jobs["job"]?.percent, "it takes no part in the world").toBe(10);

  const shown = performance.now();
  await page.page.bringToFront();
  await page.untilJob("job", 100);
  lab.figure(`right ${Math.round(performance.now() - shown)} ms after a frozen tab was shown`);
  const panel = await page.until("it is current", ({ result }) => result && !result.isStale);
  expect(panel.result).toMatchObject({ status: "connected", error: null, recovered: true });
  expect(ends(panel)).toEqual(["job"]);
});

test("a machine that really slept: a socket on a live network is probed and kept", async ({ lab, stack, network }) => {
  const page = await lab.open(oneOn(network, "woken"));
  await page.untilStatus("connected");
  await settled(page);
  const asked = page.sent("ping").length;
  const answered = pongs(page);
  await lab.sleepMachine(SLEEP_MS, () => stack.publisher.publish("woken", complete("job")));
  await until("the gateway answers the probe", () => page.sent("ping").length > asked && pongs(page) > answered);
  const panel = await page.untilJob("job", 100);
  expect(ends(panel)).toEqual(["job"]);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(page.sockets).toHaveLength(1);
});

test.concurrent("a machine that slept, by its clock: a socket on a dead network is replaced", async ({
  lab,
  stack,
  network,
}) => {
  const page = await lab.open(oneOn(network, "asleep"));
  const deaf = await lab.open(oneOn(network, "asleep"), { isDeaf: true });
  for (const one of [page, deaf]) await one.untilStatus("connected");
  await settled(deaf);
  const asked = page.sent("ping").length;
  network.swallow();
  await stack.publisher.publish("asleep", complete("job"));
  const slept = performance.now();
  for (const one of [page, deaf]) {
    await one.page.evaluate(() => {
      const now = Date.now;
      Date.now = () => now() + 3_600_000;
    });
  }
  await until("the socket is probed", () => page.sent("ping").length > asked);
  const { terminals, events } = await page.untilJob("job", 100);
  const took = performance.now() - slept;
  lab.figure(`right ${Math.round(took)} ms after a sleep with a dead network`);
  expect(took).toBeLessThan(WITHOUT_WAKE_MS);
  expect(terminals).toHaveLength(1);
  expect(events.map(({ isReplay }) => isReplay)).toEqual([true]);
  expect(page.sockets).toHaveLength(2);

  // Control: the same client without its wake still trusts its dead socket.
  const { result } = await deaf.panel();
  expect(result).toMatchObject({ status: "connected", jobs: {} });
  expect(deaf.sockets).toHaveLength(1);
});

test.concurrent("a dead Wi-Fi that nobody reports is found by the next wake", async ({ lab, stack, network }) => {
  const page = await lab.open(oneOn(network, "dead"));
  const deaf = await lab.open(oneOn(network, "dead"), { isDeaf: true });
  for (const one of [page, deaf]) await one.untilStatus("connected");
  await settled(deaf);
  network.swallow();
  await stack.publisher.publish("dead", complete("job"));
  expect((await page.panel()).result).toMatchObject({ status: "connected", jobs: {} });
  const woken = performance.now();
  for (const one of [page, deaf]) await one.page.evaluate(() => window.dispatchEvent(new Event("pageshow")));
  const { terminals, log } = await page.untilJob("job", 100);
  const took = performance.now() - woken;
  lab.figure(`right ${Math.round(took)} ms after a wake with a dead network`);
  expect(took).toBeLessThan(WITHOUT_WAKE_MS);
  expect(terminals).toHaveLength(1);
  expect(log.map(({ error }) => error)).toContain("no_answer");
  expect(page.sockets).toHaveLength(2);

  const { result } = await deaf.panel();
  expect(result).toMatchObject({ status: "connected", isStale: false, jobs: {} });
  expect(deaf.sockets).toHaveLength(1);
});

test.concurrent("a link that is silent for 25 seconds is asked, and replaced if it does not answer", async ({
  lab,
  stack,
  network,
}) => {
  const page = await lab.open(oneOn(network, "silent"), { hasOwnClock: true, isDeaf: true });
  await page.untilStatus("connected");
  const { clock } = page.page;
  // The clock also runs between these steps, so they leave some seconds for a slow machine.
  await clock.runFor(15_000);
  expect(page.sent("ping")).toEqual([]);
  await clock.runFor(11_000);
  await until("the link is asked", () => page.sent("ping").length === 1);
  await until("it answers", () => pongs(page) === 1);
  await clock.runFor(15_000);
  expect(page.sockets).toHaveLength(1);

  network.swallow();
  await stack.publisher.publish("silent", complete("job"));
  await clock.runFor(11_000);
  await until("the link is asked again", () => page.sent("ping").length === 2);
  await clock.runFor(5_500);
  const { terminals } = await page.untilJob("job", 100);
  expect(terminals).toHaveLength(1);
  expect(page.sockets).toHaveLength(2);
});

test.concurrent("offline and online: back at once, and an end that was missed arrives once", async ({
  lab,
  stack,
  network,
}) => {
  const page = await lab.open({ ...oneOn(network, "offline"), connection: "connection" }, { isUnlucky: true });
  const deaf = await lab.open(oneOn(network, "offline"), { isDeaf: true });
  await stack.publisher.publish("offline", complete("early"), progress("job", 30));
  for (const one of [page, deaf]) await one.untilJob("job", 30);

  network.swallow(); // the browser's offline mode does not close open sockets
  for (const one of [page, deaf]) await one.page.context().setOffline(true);
  const { result } = await page.untilStatus("disconnected");
  // Faster than a dead link is found without a wake.
  expect(result).toMatchObject({ isStale: true, error: { code: "offline" }, jobs: { job: { percent: 30 } } });
  const [, end] = await stack.publisher.publish("offline", progress("job", 60), complete("job"));
  const { result: waiting } = await page.until(
    "it waits for long",
    (panel) => (panel.result?.retryAt ?? 0) > Date.now() + LONG_MS,
  );
  expect(waiting).toMatchObject({ status: "disconnected" });
  expect((await page.records()).values["connection"]?.value).toBe("disconnected");

  for (const one of [page, deaf]) await one.page.context().setOffline(false);
  const online = performance.now();
  await page.untilStatus("connected");
  const took = performance.now() - online;
  const spared = (waiting?.retryAt ?? 0) - Date.now();
  lab.figure(`connected ${Math.round(took)} ms after online, ${Math.round(spared)} ms before its back-off had ended`);
  expect(spared, "it did not wait for its back-off").toBeGreaterThan(0);
  await page.untilJob("job", 100);
  await stack.publisher.publish("offline", progress("later", 1));
  const panel = await page.untilJob("later", 1);
  expect(panel.events.filter(({ seq }) => seq === end).map(({ isReplay }) => isReplay)).toEqual([true]);
  expect(ends(panel)).toEqual(["early", "job"]);
  expect(panel.result).toMatchObject({ isStale: false, recovered: true, error: null });
  expect(statuses(panel).join()).toMatch(/^connecting,connected,disconnected(,connecting)?,connected$/);

  // Control: the same client without its wake noticed nothing.
  const { result: trusting } = await deaf.panel();
  expect(trusting).toMatchObject({ status: "connected", isStale: false, jobs: { job: { percent: 30 } } });
});

test.concurrent("a wake while the first connection is on its way leaves it its time", async ({ lab, network }) => {
  network.hold();
  const page = await lab.open(oneOn(network, "slow"));
  await until("it connects", () => network.opened === 1);
  await page.page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until("more than the time for an answer has passed", () => page.page.evaluate(() => performance.now() > 5_000));
  network.release();
  await page.untilStatus("connected");
  expect(network.opened).toBe(1);
});

test.concurrent("a network that is back a moment after another wake is not waited for", async ({ lab, network }) => {
  const page = await lab.open(oneOn(network, "twice"), { isUnlucky: true });
  await page.untilStatus("connected");
  await settled(page);
  network.swallow();
  await page.page.context().setOffline(true);
  const { result } = await page.until(
    "it waits for long",
    (panel) => (panel.result?.retryAt ?? 0) > Date.now() + LONG_MS,
  );
  // The lid is opened, and the Wi-Fi is there a moment later.
  await page.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
  const failed = await page.until(
    "the wake has failed",
    (panel) => (panel.result?.retryAt ?? 0) > (result?.retryAt ?? 0),
  );
  await page.page.context().setOffline(false);
  await page.untilStatus("connected");
  expect(failed.result?.retryAt, "it did not wait for its back-off").toBeGreaterThan(Date.now());
});
