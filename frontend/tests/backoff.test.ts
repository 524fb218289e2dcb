import { expect, test, vi } from "vitest";
import {
  advance,
  frame,
  onPage,
  P,
  page,
  Q,
  type ScriptedSocket,
  scripted,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

/** The waits between the first connections to a gateway; `onSocket` says what happens to each. */
async function waits(count: number, onSocket: (socket: ScriptedSocket) => void, lasts = 0): Promise<number[]> {
  const { client, sockets } = scripted({}, onSocket);
  watch(client);
  while (sockets.length <= count) await advance(100);
  const times = sockets.map(({ madeAt }) => madeAt);
  return times.slice(1).map((time, i) => time - times[i]! - lasts);
}

const refuse = (socket: ScriptedSocket): void => socket.end(1006);

/** A gateway that accepts every client, and ends each connection after this time. */
const endAfter =
  (ms: number, isSubscribed = true) =>
  (socket: ScriptedSocket): void => {
    socket.accept();
    if (isSubscribed) socket.subscribed();
    setTimeout(() => socket.readyState === 1 && socket.end(1012), ms);
  };

test("the first retry comes after 500 ms to 1 s", async () => {
  setRandom(0);
  expect((await waits(1, refuse))[0]).toBe(500);
  setRandom(0.999);
  const [longest] = await waits(1, refuse);
  expect(longest).toBeGreaterThan(990);
  expect(longest).toBeLessThanOrEqual(1_000);
});

test("the waits grow exponentially to 20 s, and no further", async () => {
  setRandom(0.999);
  const all = await waits(9, refuse);
  for (const [i, expected] of [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 20_000, 20_000].entries()) {
    expect(all[i]).toBeGreaterThan(expected * 0.98);
    expect(all[i]).toBeLessThanOrEqual(expected);
  }
});

test("there is jitter at the cap too, so that those who lost the same gateway do not come back together", async () => {
  const random = vi.spyOn(Math, "random").mockReturnValue(0.999);
  const { client, sockets } = scripted({}, refuse);
  watch(client);
  while (sockets.length <= 10) await advance(100);
  const waitAt = async (value: number): Promise<number> => {
    random.mockReturnValue(value);
    const { length } = sockets;
    while (sockets.length < length + 2) await advance(100); // skips the wait that had begun before
    return sockets.at(-1)!.madeAt - sockets.at(-2)!.madeAt;
  };
  const [least, middle, most] = [await waitAt(0), await waitAt(0.5), await waitAt(0.999)];
  expect(least).toBeGreaterThanOrEqual(500);
  expect(middle - least).toBeGreaterThan(4_000);
  expect(most - middle).toBeGreaterThan(4_000);
  expect(most).toBeLessThanOrEqual(20_000);
});

test("a gateway that keeps accepting and dropping is asked less and less often", async () => {
  setRandom(0.999);
  const all = await waits(6, endAfter(4_500), 4_500);
  for (let i = 1; i < 5; i++) expect(all[i]).toBeGreaterThan(all[i - 1]! * 1.5);
  expect(all.at(-1)).toBeGreaterThan(19_000);
});

test("five seconds of a good link start the back-off anew", async () => {
  setRandom(0.999);
  const all = await waits(5, endAfter(5_100), 5_100);
  expect(Math.max(...all)).toBeLessThanOrEqual(1_000);
});

test("a link on which no project was ever subscribed does not reset the back-off", async () => {
  setRandom(0.999);
  const all = await waits(5, endAfter(8_000, false), 8_000);
  expect(all.at(-1)).toBeGreaterThan(15_000);
});

test("a good link resets the back-off once: after it the waits grow again", async () => {
  setRandom(0.999);
  const shown = await page();
  await advance(6_000);
  shown.last.end(1012);
  const times = [Date.now()];
  for (let i = 1; i < 5; i++) {
    while (shown.sockets.length <= i) await advance(50);
    times.push(shown.last.madeAt);
    shown.last.end(1006);
  }
  const all = times.slice(1).map((time, i) => time - times[i]!);
  expect(all[0]).toBeLessThanOrEqual(1_000);
  for (let i = 1; i < 4; i++) expect(all[i]).toBeGreaterThan(all[i - 1]! * 1.5);
});

test("watching one more project does not cut the wait short", async () => {
  setRandom(0.999);
  const shown = await page();
  for (let i = 0; i < 3; i++) await shown.drop(); // the next wait is of 8 s
  shown.last.end(1006);
  const { length } = shown.sockets;
  const other = watch(shown.client, Q);
  await advance(7_000);
  expect(shown.sockets).toHaveLength(length);
  expect(other.now).toMatchObject({ status: "disconnected", retryAt: shown.now.retryAt });
  await advance(1_100);
  expect(shown.sockets).toHaveLength(length + 1);
  shown.last.accept();
  expect(shown.last.asked(Q)).toHaveLength(1);
});

// Close codes

test.each([4000, 4400, 4401, 4499])(
  "after %d nobody retries: the page is given the code, and left alone",
  async (code) => {
    const shown = await page();
    shown.last.end(code, "Go away");
    await frame();
    expect(shown.now).toMatchObject({
      status: "disconnected",
      error: { code, message: "Go away" },
      retryAt: null,
      isStale: true,
    });
    const other = watch(shown.client, Q); // nor does a new page
    setRandom(0);
    for (const type of ["online", "pageshow", "visibilitychange"]) {
      await advance(60_000);
      onPage(type);
    }
    await advance(600_000);
    expect(shown.sockets).toHaveLength(1);
    expect(other.now).toMatchObject({ status: "disconnected", error: { code } });
  },
);

test("a refusal of the very first connection is final too", async () => {
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    socket.end(4401);
  });
  const watcher = watch(client);
  await advance(600_000);
  expect(sockets).toHaveLength(1);
  expect(watcher.now).toMatchObject({ status: "disconnected", error: { code: 4401 } });
});

test("`reconnect` tries again after the client gave up, and clears the error when it works", async () => {
  const shown = await page();
  shown.last.end(4401);
  await frame();
  shown.client.reconnect();
  await frame();
  expect(shown.sockets).toHaveLength(2);
  expect(shown.now).toMatchObject({ status: "connecting", error: null });
  await shown.join();
  expect(shown.now).toMatchObject({ status: "connected", error: null });
  expect(await nextWait(shown)).toBeLessThanOrEqual(1_000); // and the usual retry is back
});

async function nextWait(shown: { sockets: ScriptedSocket[]; last: ScriptedSocket }): Promise<number> {
  await advance(6_000);
  const { length } = shown.sockets;
  const endedAt = Date.now();
  shown.last.end(1006);
  while (shown.sockets.length === length) await advance(50);
  return shown.last.madeAt - endedAt;
}

test("a `reconnect` that is refused is not retried", async () => {
  const shown = await page();
  shown.last.end(4401);
  shown.client.reconnect();
  shown.last.accept();
  shown.last.end(4401);
  await advance(600_000);
  expect(shown.sockets).toHaveLength(2);
  expect(shown.now).toMatchObject({ status: "disconnected", error: { code: 4401 } });
});

test("a `reconnect` that fails for another reason is retried", async () => {
  const shown = await page();
  shown.last.end(4401);
  shown.client.reconnect();
  shown.last.end(1006);
  await advance(1_100);
  expect(shown.sockets).toHaveLength(3);
});

test("a page that left and comes back is connected again, though the client had given up", async () => {
  const shown = await page();
  shown.last.end(4401);
  shown.watcher.leave();
  await advance(1_200);
  const again = watch(shown.client);
  await frame();
  expect(shown.sockets).toHaveLength(2);
  expect(again.now).toMatchObject({ status: "connecting", error: null });
});

test.each([1000, 1001, 1002, 1006, 1007, 1008, 1009, 1011, 1012, 3999, 4500, 4503, 4504, 4508, 0, 65_536, -4400, NaN])(
  "after %s the page reconnects, with back-off",
  async (code) => {
    const shown = await page();
    shown.last.end(code);
    await frame();
    expect(shown.now).toMatchObject({ status: "disconnected", error: { code } });
    expect(shown.now.retryAt! - Date.now()).toBeGreaterThan(400);
    await advance(1_000);
    expect(shown.sockets).toHaveLength(2);
    await shown.join();
    expect(shown.now).toMatchObject({ status: "connected", error: null });
    expect(shown.last.asked(P)).toHaveLength(1);
  },
);
