import { expect, test, vi } from "vitest";
import {
  advance,
  complete,
  frame,
  onPage,
  P,
  type Page,
  page,
  progress,
  pseudoRandom,
  Q,
  setRandom,
  type Watcher,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

const refusal = (code: string, projectId: string) => ({ type: "error", code, message: `No: ${code}`, projectId });

/** A page whose first project is subscribed, and whose second was refused. */
async function withRefused(code = "rate_limited"): Promise<Page & { other: Watcher }> {
  const shown = await page();
  const other = watch(shown.client, Q);
  await shown.hear(refusal(code, Q));
  return Object.assign(shown, { other });
}

test.each(["rate_limited", "too_many_projects", "unavailable"])(
  "a project that is refused (%s) has an error, is no longer connecting, and is the only one",
  async (code) => {
    const shown = await withRefused(code);
    expect(shown.other.now).toMatchObject({
      status: "disconnected",
      error: { code, message: `No: ${code}` },
      isStale: true,
    });
    expect(shown.now).toMatchObject({ status: "connected", error: null, isStale: false });
    await shown.hear(progress("a", 10, { seq: 1 }));
    expect(shown.job("a").percent).toBe(10);
    expect(shown.sockets).toHaveLength(1);
  },
);

test("a refused project is subscribed again after a second or more, until it is accepted", async () => {
  setRandom(0); // at the first tick after a second
  const shown = await withRefused();
  await advance(900);
  expect(shown.last.asked(Q)).toHaveLength(1);
  await advance(1_100);
  expect(shown.last.asked(Q)).toHaveLength(2);
  expect(shown.last.asked(P)).toHaveLength(1);
  shown.last.subscribed(0, true, Q);
  await frame();
  expect(shown.other.now).toMatchObject({ status: "connected", error: null, isStale: false });
  await advance(20_000);
  expect(shown.last.asked(Q)).toHaveLength(2);
});

test("pages that were refused together try again at different times, a few seconds later", async () => {
  vi.spyOn(Math, "random").mockImplementation(pseudoRandom());
  const pages: Page[] = [];
  for (let i = 0; i < 30; i++) pages.push(await withRefused("unavailable"));
  const back: number[] = [];
  for (let second = 0; second < 20; second++) {
    back.push(pages.filter(({ last }) => last.asked(Q).length > 1).length);
    await advance(1_000);
  }
  expect(back[2]).toBeLessThan(25);
  expect(back[8]).toBeGreaterThan(20);
  expect(back.at(-1)).toBeGreaterThan(28);
});

test.each([
  [0, [1, 2, 4, 8, 16, 20, 20]],
  [0.999, [3, 6, 12, 24, 48, 60, 60]],
])(
  "a project that is always refused is tried less and less often, once a minute at least (random: %f)",
  async (random, expected) => {
    setRandom(random);
    const shown = await withRefused("unavailable");
    const times = [Date.now()];
    while (times.length <= expected.length) {
      await advance(500);
      if (shown.last.asked(Q).length === times.length) continue;
      times.push(Date.now());
      await shown.hear(refusal("unavailable", Q), { type: "pong" });
      shown.last.isAnswering = true;
    }
    const waits = times.slice(1).map((time, i) => (time - times[i]!) / 1_000);
    for (const [i, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(expected[i]! - 1);
      expect(wait).toBeLessThanOrEqual(expected[i]! + 2); // it waits for the next tick
    }
    expect(shown.other.now.error).toMatchObject({ code: "unavailable" });
    expect(shown.now).toMatchObject({ status: "connected", error: null });
    expect(shown.sockets).toHaveLength(1);
  },
);

test("a live project that becomes `unavailable` is no longer subscribed: it is stale, and resumes at its cursor", async () => {
  setRandom(0);
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 7 }));
  await shown.hear(refusal("unavailable", P));
  expect(shown.now).toMatchObject({
    status: "disconnected",
    isStale: true,
    error: { code: "unavailable" },
    jobs: { a: { percent: 10 } },
  });
  await advance(2_000);
  expect(shown.last.asked(P).at(-1)).toEqual({ type: "subscribe", projectId: P, since: 7 });
  await shown.hear({ type: "subscribed", projectId: P, seq: 7, recovered: true });
  expect(shown.now).toMatchObject({ status: "connected", isStale: false, error: null });
  expect(shown.sockets).toHaveLength(1);
});

test("a live project whose second subscribe is too much (`rate_limited`) stays subscribed", async () => {
  const shown = await page();
  await shown.hear(refusal("rate_limited", P));
  expect(shown.now).toMatchObject({ status: "connected", isStale: false });
});

test("all refused projects are tried again", async () => {
  const shown = await withRefused();
  const third = watch(shown.client, "project_3");
  await shown.hear(refusal("rate_limited", "project_3"));
  await advance(5_000);
  expect(shown.last.asked(Q)).toHaveLength(2);
  expect(shown.last.asked("project_3")).toHaveLength(2);
  expect(third.now.error).not.toBeNull();
});

test("a project that was refused and left is not tried again", async () => {
  setRandom(0);
  const shown = await withRefused();
  shown.other.leave();
  await advance(20_000);
  expect(shown.last.asked(Q).length).toBeLessThanOrEqual(2); // the linger may outlast the wait
  expect(shown.last.sent.at(-1)).toEqual({ type: "unsubscribe", projectId: Q });
});

test("a refused project is tried on the next connection too", async () => {
  const shown = await withRefused();
  await shown.drop();
  shown.last.accept();
  expect(shown.last.asked(Q)).toHaveLength(1);
  shown.last.subscribed(0, true, Q);
  await frame();
  expect(shown.other.now).toMatchObject({ status: "connected", error: null });
});

test("a project that is refused does not hold up a move", async () => {
  const shown = await withRefused("too_many_projects");
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  await shown.join();
  expect(shown.sockets.map(({ isLeft }) => isLeft)).toEqual([true, false]);
});

test("a project that only the next replica refuses stays on the old one, and is tried again on the next", async () => {
  const shown = await page();
  const old = shown.last;
  await shown.hear({ type: "going_away", reconnectIn: [0, 0] });
  shown.last.accept();
  await shown.hear(refusal("unavailable", P));
  old.say(progress("a", 10, { seq: 1 }));
  await frame();
  expect(old.isLeft).toBe(false);
  expect(shown.now).toMatchObject({ status: "connected", isStale: false, jobs: { a: { percent: 10 } } });
  await advance(5_000);
  expect(shown.last.asked(P)).toHaveLength(2);
  await shown.hear({ type: "subscribed", projectId: P, seq: 1, recovered: true });
  expect(old.isLeft).toBe(true);
  expect(shown.now).toMatchObject({ status: "connected", isStale: false, error: null });
});

test("an error that names no project is shown by all, and the connection is kept", async () => {
  const shown = await page();
  await shown.hear({ type: "error", code: "bad_message", message: "Not an object." });
  expect(shown.now).toMatchObject({ status: "connected", error: { code: "bad_message", message: "Not an object." } });
  await shown.hear(complete("a", { seq: 1 }));
  expect(shown.ends).toHaveLength(1);
  expect(shown.sockets).toHaveLength(1);
});

test("an error of a project that nobody watches does no harm", async () => {
  const shown = await page();
  await shown.hear(refusal("rate_limited", "project_9"));
  await advance(10_000);
  expect(shown.now).toMatchObject({ status: "connected", isStale: false });
  expect(shown.last.sent).toHaveLength(1);
});

// What a page's own callbacks do

const listen = (shown: Page, handlers: object, onChange = (): void => {}): (() => void) =>
  shown.client.project(P).subscribe(onChange, handlers);

const broken = (name: string) => (): never => {
  throw new Error(`Mistake in ${name}`);
};

test.each(["onEvent", "onTerminal"])(
  "an exception in `%s` stops nobody else, and surfaces as uncaught",
  async (name) => {
    const shown = await page();
    const before = listen(shown, { [name]: broken(name) });
    const last = watch(shown.client);
    shown.last.say(complete("a", { seq: 1 }), complete("b", { seq: 2 }));
    for (const { events, ends } of [shown, last]) expect([events.length, ends.length]).toEqual([2, 2]);
    await expect(advance(1)).rejects.toThrow(`Mistake in ${name}`);
    await frame();
    expect(last.now.jobs).toMatchObject({ a: { status: "complete" }, b: { status: "complete" } });
    expect(shown.now.error).toBeNull();
    before();
    await shown.hear({ type: "pong" });
    await advance(30_000);
    expect(shown.sockets[0]!.isLeft).toBe(true); // as usual: the client still watches over the link
    await advance(1_100);
  },
);

test("an exception in `onChange` stops nobody else, and surfaces as uncaught", async () => {
  const shown = await page();
  const before = listen(shown, {}, broken("onChange"));
  const last = watch(shown.client);
  shown.last.say(progress("a", 10, { seq: 1 }));
  await expect(advance(20)).rejects.toThrow("Mistake in onChange");
  expect(last.snapshots).toHaveLength(1);
  before();
  await shown.hear(progress("a", 20, { seq: 2 }));
  expect(last.snapshots).toHaveLength(2);
  expect(last.job("a").percent).toBe(20);
});

test("an exception of a status listener stops nobody else", async () => {
  const shown = await page();
  let told = 0;
  const leave = shown.client.subscribe(broken("status"));
  shown.client.subscribe(() => told++);
  shown.last.end(1006);
  expect(told).toBe(1);
  await expect(advance(1)).rejects.toThrow("Mistake in status");
  leave();
  await advance(1_100);
  await shown.join();
  expect(shown.now.status).toBe("connected");
});

test("a callback may leave, or watch something else", async () => {
  const shown = await page();
  let other: Watcher | undefined;
  const leave: () => void = listen(shown, {
    onEvent: () => {
      leave();
      other ??= watch(shown.client, Q);
    },
  });
  shown.last.say(progress("a", 10, { seq: 1 }), progress("a", 20, { seq: 2 }));
  await frame();
  expect(shown.events).toHaveLength(2);
  expect(other!.now.status).toBe("connecting");
  expect(shown.last.asked(Q)).toHaveLength(1);
  onPage("pageshow");
  expect(shown.last.pings).toBe(1);
});

test("a listener that is added in a callback hears from the next event on", async () => {
  const shown = await page();
  const late: Watcher[] = [];
  const leave = listen(shown, { onEvent: () => late.push(watch(shown.client)) });
  shown.last.say(progress("a", 10, { seq: 1 }));
  expect(late.map(({ events }) => events.length)).toEqual([0]);
  shown.last.say(progress("a", 20, { seq: 2 }));
  expect(late.map(({ events }) => events.length)).toEqual([1, 0]);
  leave();
});
