/** `getToken`: when it is asked, what is sent, and what a page is told. */

import { expect, test, vi } from "vitest";
import type { ClientOptions } from "../src/core.js";
import { Tokens } from "../src/tokens.js";
import {
  advance,
  frame,
  P,
  type Page,
  page,
  progress,
  pseudoRandom,
  Q,
  type ScriptedSocket,
  scripted,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

type GetToken = NonNullable<ClientOptions["getToken"]>;

/** Gives token_1, token_2 and so on. */
const counting = (): ReturnType<typeof vi.fn<GetToken>> => {
  let count = 0;
  return vi.fn<GetToken>(async () => `token_${++count}`);
};
const authorised = (expiresIn = 600_000): object => ({ type: "authorised", expiresIn });
const forbidden = (projectId: string): object => ({
  type: "error",
  code: "forbidden",
  message: "Not yours",
  projectId,
});

/** The tokens that were shown on it. */
const shownOn = ({ sent }: ScriptedSocket): string[] =>
  sent.flatMap((message: { type: string; token?: string }) => message.token ?? []);

/** A gateway that takes every token with this life. */
const taking =
  (expiresIn = 600_000) =>
  (socket: ScriptedSocket): void => {
    socket.accept();
    socket.say(authorised(expiresIn));
    socket.subscribed();
  };

/** A page that is connected with token_1. */
async function signedIn(expiresIn = 600_000, getToken = counting()): Promise<Page & { getToken: typeof getToken }> {
  const shown = await withToken({ getToken });
  await shown.hear(authorised(expiresIn));
  return Object.assign(shown, { getToken });
}

/** `page` accepts its socket at once, but with `getToken` that comes a moment later. */
async function withToken(options: ClientOptions): Promise<Page> {
  const sockets = scripted(options);
  const watcher = watch(sockets.client);
  await frame();
  const made = { ...sockets, ...watcher, watcher } as unknown as Page;
  return Object.defineProperties(made, {
    last: { get: () => sockets.last },
    now: { get: () => watcher.now },
    hear: {
      value: async (...messages: unknown[]) => {
        sockets.last.say(...messages);
        await frame();
      },
    },
    join: {
      value: async () => {
        sockets.last.accept();
        sockets.last.subscribed();
        await frame();
      },
    },
  });
}

// What is sent, and when

test("`auth` goes out in the same turn as the subscribes, before them, and never in the URL", async () => {
  const { client, sockets } = scripted({ getToken: () => "a b&c=+/" });
  watch(client);
  watch(client, Q);
  await frame();
  sockets[0]!.accept();
  expect(sockets[0]!.sent).toEqual([
    { type: "auth", token: "a b&c=+/" },
    { type: "subscribe", projectId: P },
    { type: "subscribe", projectId: Q },
  ]);
  expect(sockets[0]!.url).toBe("ws://gateway.test/ws");
});

test.each([
  ["without `getToken`", undefined],
  ["with one that gives undefined", () => undefined],
] as const)("%s nothing is shown: for anonymous projects", async (_name, getToken) => {
  const shown = await withToken({ getToken });
  await shown.join();
  expect(shown.last.sent).toEqual([{ type: "subscribe", projectId: P }]);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test("a token is kept: losses, moves and new projects ask for no other one", async () => {
  const shown = await signedIn();
  for (let i = 0; i < 5; i++) {
    await shown.join();
    await advance(6_000);
    if (i % 2) shown.last.end(1006);
    else shown.last.say({ type: "going_away", reconnectIn: [0, 0] });
    await advance(1_100);
    shown.last.accept();
    await shown.hear(authorised(500_000));
    expect(shownOn(shown.last)).toEqual(["token_1"]);
  }
  expect(shown.getToken).toHaveBeenCalledTimes(1);
});

test("a drain of 50 pages asks the token endpoint 0 times", async () => {
  vi.spyOn(Math, "random").mockImplementation(pseudoRandom());
  const endpoint = vi.fn<GetToken>(async () => "t");
  const all: ScriptedSocket[] = [];
  const pages = Array.from({ length: 50 }, () => {
    const { client } = scripted({ getToken: endpoint }, (socket) => {
      all.push(socket);
      taking()(socket);
    });
    return watch(client);
  });
  await frame();
  expect(endpoint).toHaveBeenCalledTimes(50);
  endpoint.mockClear();
  for (const socket of [...all]) socket.say({ type: "going_away", reconnectIn: [0, 10_000] });
  await advance(11_000);
  expect(all).toHaveLength(100);
  expect(endpoint).not.toHaveBeenCalled();
  expect(pages.filter(({ snapshots }) => snapshots.at(-1)!.status !== "connected")).toEqual([]);
  expect(pages.flatMap(({ snapshots }) => snapshots.slice(1)).filter(({ isStale }) => isStale)).toEqual([]); // no gap
});

// Refreshes

test.each([
  [0, 60],
  [0.5, 72.5],
  [0.999, 85],
])(
  "it is refreshed in band, at a random point of 60 to 85 percent of its life (random: %f)",
  async (random, percent) => {
    setRandom(random);
    const shown = await signedIn(100_000);
    await shown.join();
    shown.last.isAnswering = true;
    await advance(percent * 1_000 - 500);
    expect(shown.getToken).toHaveBeenCalledTimes(1);
    await advance(1_000);
    expect(shown.getToken).toHaveBeenCalledTimes(2);
    expect(shownOn(shown.last)).toEqual(["token_1", "token_2"]);
    await shown.hear(authorised(100_000));
    await advance(percent * 1_000 + 1_000);
    expect(shownOn(shown.last)).toEqual(["token_1", "token_2", "token_3"]);
    expect(shown.sockets).toHaveLength(1);
    expect(shown.now).toMatchObject({ status: "connected", error: null });
  },
);

test("10,000 pages refresh at different times: no second has twice the mean", async () => {
  vi.spyOn(Math, "random").mockImplementation(pseudoRandom(3));
  const waits: number[] = [];
  vi.stubGlobal("setTimeout", (_: unknown, ms: number) => waits.push(ms)); // 10,000 timers take the fake clock minutes
  for (let i = 0; i < 10_000; i++)
    new Tokens(
      () => "t",
      () => {},
    ).onAuthorised(200_000);
  const counts = new Array<number>(200).fill(0);
  for (const wait of waits) counts[Math.floor(wait / 1_000)]!++;
  expect(waits).toHaveLength(10_000);
  expect(Math.max(...counts)).toBeLessThan((2 * 10_000) / 50); // they come from 120 s to 170 s
});

test("another connection of the same token does not put off its refresh", async () => {
  setRandom(0);
  const shown = await signedIn(100_000);
  await shown.join();
  shown.last.isAnswering = true;
  await advance(50_000);
  shown.last.say({ type: "going_away", reconnectIn: [0, 0] });
  await frame();
  shown.last.accept();
  shown.last.isAnswering = true;
  await shown.hear(authorised(50_000), { type: "subscribed", projectId: P, seq: 0, recovered: true });
  await advance(11_000);
  expect(shownOn(shown.last)).toEqual(["token_1", "token_2"]);
});

test.each([0, -5, 1, 1e15, 2 ** 31])("a life of %d ms is no loop of questions", async (expiresIn) => {
  setRandom(0.5);
  const getToken = counting();
  const { client, sockets } = scripted({ getToken }, (socket) => {
    taking(expiresIn)(socket);
    setInterval(() => socket.readyState === 1 && socket.say(authorised(expiresIn)), 200);
  });
  const watcher = watch(client);
  await advance(10_000);
  expect(getToken.mock.calls.length).toBeLessThanOrEqual(11);
  expect(sockets).toHaveLength(1);
  expect(watcher.now.status).toBe("connected");
  client.close();
});

test("a refresh that fails is tried again; the page does not notice while the old token is good", async () => {
  setRandom(0.5);
  const shown = await signedIn(100_000);
  await shown.join();
  shown.last.isAnswering = true;
  shown.getToken.mockImplementation(() => Promise.reject(new Error("503")));
  await advance(82_000);
  expect(shown.getToken).toHaveBeenCalledTimes(3);
  shown.getToken.mockImplementation(() => "good");
  await advance(9_000);
  expect(shownOn(shown.last)).toEqual(["token_1", "good"]);
  expect(shown.sockets).toHaveLength(1);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test("a refresh that gives null signs the page out", async () => {
  setRandom(0);
  const shown = await signedIn(100_000);
  await shown.join();
  shown.last.isAnswering = true;
  shown.getToken.mockImplementation(() => null);
  await advance(61_000);
  expect(shown.now).toMatchObject({ status: "disconnected", retryAt: null, error: { code: 4401 } });
  expect(shown.last.isLeft).toBe(true);
  await advance(600_000);
  expect(shown.sockets).toHaveLength(1);
});

test("while nothing is watched nothing is refreshed; the token is still kept", async () => {
  const shown = await signedIn(100_000);
  await shown.join();
  shown.watcher.leave();
  await advance(600_000);
  watch(shown.client);
  await frame();
  shown.last.accept();
  expect(shownOn(shown.last)).toEqual(["token_1"]);
  expect(shown.getToken).toHaveBeenCalledTimes(1);
});

test("a clock of the page that is an hour off, or jumps, makes no difference", async () => {
  setRandom(0);
  const shown = await signedIn(100_000);
  await shown.join();
  shown.last.isAnswering = true;
  vi.setSystemTime(Date.now() + 3_600_000);
  await advance(30_000);
  vi.setSystemTime(Date.now() - 7_200_000);
  await advance(29_000);
  expect(shown.getToken).toHaveBeenCalledTimes(1);
  await advance(2_000);
  expect(shown.getToken).toHaveBeenCalledTimes(2);
});

// Tokens that are refused

test("a token that expired while the page slept is replaced, and the page comes back by itself", async () => {
  setRandom(0.5);
  const shown = await signedIn(100_000);
  await shown.join();
  await shown.hear(progress("a", 40, { seq: 7 }));
  await advance(6_000);
  for (let sleep = 0; sleep < 5; sleep++) {
    // Neither the timers nor the network run meanwhile; the gateway has closed the connection.
    vi.setSystemTime(Date.now() + 3_600_000);
    shown.last.end(4401, "token expired");
    await frame();
    expect(shown.now).toMatchObject({ status: "disconnected", error: { code: "no_token", message: "token expired" } });
    await advance(1_000);
    shown.last.accept();
    expect(shown.last.sent).toEqual([
      { type: "auth", token: `token_${sleep + 2}` },
      { type: "subscribe", projectId: P, since: 7 },
    ]);
    await shown.hear(authorised(100_000), { type: "subscribed", projectId: P, seq: 7, recovered: true });
    expect(shown.now).toMatchObject({ status: "connected", isStale: false, error: null, jobs: { a: { percent: 40 } } });
    await advance(6_000);
  }
});

test("a kept token that is refused on the next connection does not count against those that follow", async () => {
  setRandom(0);
  const shown = await signedIn();
  await shown.join();
  await advance(6_000);
  shown.last.end(1006);
  await advance(600);
  shown.last.accept();
  expect(shownOn(shown.last)).toEqual(["token_1"]);
  shown.last.end(4401, "token expired");
  await advance(1_000);
  await shown.join();
  await shown.hear(authorised());
  expect(shownOn(shown.last)).toEqual(["token_2"]);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test.each(["bad token", "token expired", "token revoked", "another user", "no token"])(
  "after three tokens in a row that are refused at once (%s) it gives up, with back-off between them",
  async (reason) => {
    setRandom(0.999);
    const getToken = counting();
    const onError = vi.fn();
    const times: number[] = [];
    const { client, sockets } = scripted({ getToken, onError }, (socket) => {
      times.push(Date.now());
      socket.accept();
      setTimeout(() => socket.end(4401, reason), 1);
    });
    const watcher = watch(client);
    await advance(600_000);
    expect(getToken).toHaveBeenCalledTimes(3);
    expect(sockets.map(shownOn)).toEqual([["token_1"], ["token_2"], ["token_3"]]);
    expect(times[1]! - times[0]!).toBeGreaterThan(900);
    expect(times[2]! - times[1]!).toBeGreaterThan(1_800);
    expect(watcher.now).toMatchObject({
      status: "disconnected",
      retryAt: null,
      error: { code: 4401, message: reason },
    });
    expect(onError.mock.calls.map(([{ code }]) => code)).toEqual(["no_token", "no_token", 4401]);

    client.reconnect(); // the user signed in again
    await frame();
    expect(getToken).toHaveBeenCalledTimes(4);
  },
);

test("a token that is revoked on both connections of a move is one refusal, and one question", async () => {
  setRandom(0);
  const shown = await signedIn();
  await shown.join();
  await advance(6_000);
  const old = shown.last;
  old.say({ type: "going_away", reconnectIn: [0, 0] });
  await frame();
  shown.last.accept();
  shown.last.end(4401, "token revoked");
  old.end(4401, "token revoked");
  await advance(2_000);
  expect(shown.getToken).toHaveBeenCalledTimes(2);
  await shown.join();
  expect(shownOn(shown.last)).toEqual(["token_2"]);
  expect(shown.now.status).toBe("connected");
});

test("4401 without a token to replace: it gives up at once", async () => {
  const shown = await page();
  shown.last.end(4401, "no token");
  await advance(600_000);
  expect(shown.sockets).toHaveLength(1);
  expect(shown.now).toMatchObject({
    status: "disconnected",
    error: { code: 4401, message: "no token" },
    retryAt: null,
  });
});

test("4503 (cannot decide) is tried again with the same token", async () => {
  setRandom(0);
  const shown = await signedIn();
  shown.last.accept();
  shown.last.end(4503, "no keys yet");
  await frame();
  expect(shown.now).toMatchObject({ status: "disconnected", error: { code: 4503 }, retryAt: expect.any(Number) });
  await advance(1_000);
  shown.last.accept();
  expect(shownOn(shown.last)).toEqual(["token_1"]);
  expect(shown.getToken).toHaveBeenCalledTimes(1);
});

// What `getToken` may do

test("null: nobody is signed in; no socket is opened until `reconnect`", async () => {
  const getToken = vi.fn<GetToken>(() => null);
  const shown = await withToken({ getToken });
  expect(shown.now).toMatchObject({ status: "disconnected", retryAt: null, error: { code: 4401 } });
  await advance(600_000);
  expect(shown.sockets).toHaveLength(0);
  expect(getToken).toHaveBeenCalledTimes(1);
  getToken.mockImplementation(() => "mine");
  shown.client.reconnect();
  await frame();
  await shown.join();
  expect(shownOn(shown.last)).toEqual(["mine"]);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test.each<[string, GetToken]>([
  ["rejects", () => Promise.reject(new Error("Session expired"))],
  [
    "throws",
    () => {
      throw new Error("Session expired");
    },
  ],
])("that %s: `error` says so, no socket is opened, and it is asked again with back-off", async (_name, fail) => {
  setRandom(0.999);
  const getToken = vi.fn<GetToken>(fail);
  const { client, sockets } = scripted({ getToken });
  const watcher = watch(client);
  await frame();
  expect(sockets).toHaveLength(0);
  expect(watcher.now.status).toBe("disconnected");
  expect(watcher.now.error).toEqual({ code: "no_token", message: "Error: Session expired" });
  await advance(1_000);
  expect(getToken).toHaveBeenCalledTimes(2);
  await advance(1_900);
  expect(getToken).toHaveBeenCalledTimes(2);
  getToken.mockImplementation(() => "good");
  await advance(200);
  sockets[0]!.accept();
  expect(shownOn(sockets[0]!)).toEqual(["good"]);
});

test("that never answers is given up after 10 s, and asked again; an answer that comes later is not used", async () => {
  const answers: ((token: string) => void)[] = [];
  const { client, sockets } = scripted({ getToken: () => new Promise((resolve) => answers.push(resolve)) });
  const watcher = watch(client);
  await advance(9_900);
  expect(watcher.now.status).toBe("connecting");
  await advance(200);
  expect(watcher.now.status).toBe("disconnected");
  await advance(1_000);
  expect(answers).toHaveLength(2);
  answers[0]!("late");
  await frame();
  expect(sockets).toHaveLength(0);
  answers[1]!("good");
  await frame();
  sockets[0]!.accept();
  expect(shownOn(sockets[0]!)).toEqual(["good"]);
});

test("a page that leaves while the token is on its way opens no socket", async () => {
  let answer = (_token: string): void => {};
  const { client, sockets } = scripted({
    getToken: () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  });
  watch(client).leave();
  await advance(1_200);
  answer("late");
  await frame();
  expect(sockets).toHaveLength(0);
});

// Projects that the token does not cover

test("`forbidden` ends that project alone, and it is not asked again with the same token", async () => {
  setRandom(0.5);
  const shown = await signedIn();
  await shown.join();
  shown.last.isAnswering = true;
  const other = watch(shown.client, Q);
  await shown.hear(forbidden(Q));
  expect(other.now).toMatchObject({ status: "disconnected", error: { code: "forbidden", message: "Not yours" } });
  expect(shown.now).toMatchObject({ status: "connected", error: null });
  await advance(200_000);
  expect(shown.last.asked(Q)).toHaveLength(1);
  shown.last.end(1006);
  await advance(2_000);
  shown.last.accept();
  expect(shown.last.asked(Q)).toHaveLength(0);
  expect(shown.last.asked(P)).toHaveLength(1);
  expect(shown.getToken).toHaveBeenCalledTimes(1);
});

test("the next token has a forbidden project asked for again, in band", async () => {
  setRandom(0);
  const shown = await signedIn(100_000);
  await shown.join();
  shown.last.isAnswering = true;
  const other = watch(shown.client, Q);
  await shown.hear(forbidden(Q));
  await advance(61_000);
  expect(shownOn(shown.last)).toEqual(["token_1", "token_2"]);
  expect(shown.last.asked(Q).length).toBeGreaterThan(1);
  shown.last.subscribed(0, true, Q);
  await frame();
  expect(other.now).toMatchObject({ status: "connected", error: null });
  shown.last.end(1006);
  await advance(1_000);
  shown.last.accept();
  expect(shown.last.asked(Q)).toHaveLength(1);
});

test("a live project that the next token no longer covers ends, and what it showed is old", async () => {
  const shown = await signedIn();
  await shown.join();
  await shown.hear(progress("a", 40, { seq: 7 }), forbidden(P));
  expect(shown.now).toMatchObject({
    status: "disconnected",
    isStale: true,
    error: { code: "forbidden" },
    jobs: { a: { percent: 40 } },
  });
  await shown.hear(progress("a", 50, { seq: 8 }));
  expect(shown.job("a").percent).toBe(40);
});

test("in a move, a project that the next replica forbids holds nothing up", async () => {
  setRandom(0);
  const shown = await signedIn();
  await shown.join();
  const old = shown.last;
  old.say({ type: "going_away", reconnectIn: [0, 0] });
  await frame();
  shown.last.accept();
  await shown.hear(authorised(), forbidden(P));
  expect(old.isLeft).toBe(true);
  expect(shown.now.error).toMatchObject({ code: "forbidden" });
});

test("`reconnect` asks for another token, and for forbidden projects", async () => {
  const shown = await signedIn();
  await shown.join();
  await shown.hear(forbidden(P));
  shown.client.reconnect();
  await frame();
  shown.last.accept();
  expect(shownOn(shown.last)).toEqual(["token_2"]);
  expect(shown.last.asked(P)).toHaveLength(1);
});
