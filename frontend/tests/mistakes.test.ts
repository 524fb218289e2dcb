/** What a page or its server gets wrong: each mistake is said, and none makes a loop. */

import { expect, test, vi } from "vitest";
import {
  advance,
  complete,
  frame,
  onPage,
  P,
  page,
  progress,
  type ScriptedSocket,
  scripted,
  setRandom,
  watch,
  withFakeTime,
} from "./support.js";

withFakeTime();

// A connection that cannot be

test("a WebSocket that a Content-Security-Policy blocks fires `error` alone: it is said at once", async () => {
  setRandom(0.999);
  const { client, sockets } = scripted({}, (socket) => socket.onerror?.({}));
  const watcher = watch(client);
  await frame();
  expect(watcher.now).toMatchObject({
    status: "disconnected",
    error: { code: "cannot_connect", message: expect.stringContaining("Content-Security-Policy") },
  });
  await advance(60_000);
  expect(sockets.length).toBeGreaterThan(2); // with back-off: nothing says that it is for ever
  expect(sockets.length).toBeLessThan(12);
});

test("an `error` with its `close` is what it was: the close says more", async () => {
  const { client } = scripted({}, (socket) => socket.end(1006));
  const watcher = watch(client);
  await frame();
  expect(watcher.now.error).toMatchObject({ code: 1006 });
});

test("an `error` of an open connection alone ends nothing: its silence does", async () => {
  const shown = await page();
  shown.last.onerror?.({});
  await shown.hear(progress("a", 1, { seq: 1 }));
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

// Replicas that send their clients away for ever

test("`going_away` on each new connection is no loop", async () => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    setTimeout(() => {
      socket.subscribed(0);
      socket.say({ type: "going_away", reconnectIn: [0, 0] });
    }, 1);
  });
  const watcher = watch(client);
  await advance(30_000);
  expect(sockets.length).toBeLessThan(12);
  expect(watcher.now.status).toBe("connected");
});

test.each<[string, unknown]>([
  ["no window", { type: "going_away" }],
  ["a window that overflows a timer", { type: "going_away", reconnectIn: [2 ** 31, 1e15] }],
  ["numbers that are none", '{"type":"going_away","reconnectIn":[1e999,-1e999]}'],
  ["a window in the past", { type: "going_away", reconnectIn: [-1e9, -1] }],
  ["numbers as texts", { type: "going_away", reconnectIn: ["9999999999", "9999999999"] }],
  ["objects", { type: "going_away", reconnectIn: [{}, { valueOf: 5 }] }],
  ["an object as window", { type: "going_away", reconnectIn: { 0: 0, 1: 0, length: 2 } }],
  ["texts", { type: "going_away", reconnectIn: ["a", "b"] }],
  ["nothing in it", { type: "going_away", reconnectIn: [] }],
])("`going_away` with %s on each connection is no loop", async (_name, message) => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    setTimeout(() => {
      socket.subscribed(0);
      socket.say(message);
    }, 1);
  });
  watch(client);
  await advance(30_000);
  expect(sockets.length).toBeLessThan(12);
});

test("`going_away` again and again on one connection is one move", async () => {
  setRandom(0.5);
  const shown = await page();
  for (let i = 0; i < 500; i++) shown.last.say({ type: "going_away", reconnectIn: [0, 0] });
  await advance(1_000);
  expect(shown.sockets.length).toBeLessThanOrEqual(2);
});

test("`going_away` on the next connection, before it is subscribed, has the page try another one, with back-off", async () => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    if (sockets.length === 1) socket.subscribed(0);
    socket.say({ type: "going_away", reconnectIn: [0, 0] });
  });
  const watcher = watch(client);
  await advance(20_000);
  expect(sockets.length).toBeLessThan(10);
  expect(sockets[0]!.isLeft).toBe(false);
  expect(watcher.now.status).toBe("connected");
});

/** What a field of a message may be instead of what it should be. */
const WRONG: unknown[] = [
  null,
  true,
  "",
  "x",
  "-1e999",
  -1,
  1e300,
  Number.NaN,
  [],
  {},
  [[]],
  { valueOf: 1 },
  { toString: null },
];
const MESSAGES: Record<string, unknown>[] = [
  { type: "connected", clientId: "c", expiresIn: 1_000 },
  { type: "authorised", expiresIn: 1_000 },
  { type: "subscribed", projectId: P, seq: 5, recovered: true },
  { type: "unsubscribed", projectId: P },
  { ...progress("a", 5, { seq: 5, attempt: 0, message: "m", nextWithin: 5, data: {}, sentenceId: "s" }) },
  { ...complete("a", { seq: 5 }) },
  { ...complete("a", { seq: 5 }), result: { file: "f", duration: 1 } },
  { type: "job_failed", projectId: P, jobId: "a", jobType: "audio", error: "e", reason: "lost", seq: 5 },
  { type: "stale" },
  { type: "live" },
  { type: "going_away", reconnectIn: [0, 0] },
  { type: "pong" },
  { type: "error", code: "unavailable", message: "m", projectId: P },
];

test.each(
  MESSAGES.flatMap((message) => Object.keys(message).map((field) => [message["type"], field, message] as const)),
)(
  "%s with a wrong %s, whatever it is, on each connection: no loop, no exception, and nothing that React cannot show",
  async (_type, field, message) => {
    setRandom(0.5);
    for (const wrong of WRONG) {
      const { client, sockets } = scripted({}, (socket) => {
        socket.accept();
        setTimeout(() => {
          socket.subscribed(5);
          socket.say({ ...message, [field]: wrong }, { ...message, [field]: undefined }, message);
        }, 1);
      });
      const watcher = watch(client);
      await advance(30_000);
      expect(sockets.length, `${field}: ${JSON.stringify(wrong)}`).toBeLessThan(12);
      const { error, jobs, events, lastEvent } = watcher.now;
      if (error) expect([typeof error.message, /string|number/.test(typeof error.code)]).toEqual(["string", true]);
      for (const part of [...events, ...Object.values(jobs), lastEvent]) {
        const { jobId, message, error } = (part ?? {}) as Record<string, unknown>;
        for (const text of [jobId, message, error]) expect(typeof (text ?? "")).toBe("string");
      }
      watcher.leave();
      await advance(1_100);
      client.close();
    }
  },
);

test.each([
  ["close code 1000", (socket: ScriptedSocket) => socket.end(1000)],
  ["close code 1012", (socket: ScriptedSocket) => socket.end(1012)],
  ["close code 4503", (socket: ScriptedSocket) => socket.end(4503)],
  ["close code 4508", (socket: ScriptedSocket) => socket.end(4508)],
  ["no close code", (socket: ScriptedSocket) => socket.end(undefined)],
  ["a close code that is a text", (socket: ScriptedSocket) => socket.end("1012")],
  ["a message of no type", (socket: ScriptedSocket) => socket.say({})],
])("a connection that ends with %s as soon as it is subscribed is no loop", async (_name, end) => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    setTimeout(() => {
      socket.subscribed(0);
      end(socket);
    }, 1);
  });
  watch(client);
  await advance(60_000);
  expect(sockets.length).toBeGreaterThan(4);
  expect(sockets.length).toBeLessThan(15);
});

test("4400 (abuse): `error` says so, nothing reconnects by itself, `reconnect()` does", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  shown.last.end(4400, "too many messages");
  await frame();
  const gaveUp = {
    status: "disconnected",
    isStale: true,
    retryAt: null,
    error: { code: 4400, message: "too many messages" },
    jobs: { a: { percent: 10 } },
  };
  expect(shown.now).toMatchObject(gaveUp);
  onPage("online");
  onPage("pageshow");
  shown.client.probe();
  watch(shown.client, "project_2");
  await advance(600_000);
  expect(shown.now).toMatchObject(gaveUp);
  expect(shown.sockets).toHaveLength(1);
  shown.client.reconnect();
  await shown.join(1);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test.each([
  ["a text", "a.mp3"],
  ["a number", 7],
  ["a file that is an object", { file: {} }],
  ["a duration that is a text", { duration: "3" }],
])("a result that is %s, replayed on each connection, is no loop and no exception", async (_name, result) => {
  setRandom(0.5);
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    setTimeout(() => {
      socket.subscribed(5);
      socket.say({ ...complete("a", { seq: 5 }), result });
    }, 1);
  });
  const watcher = watch(client);
  await advance(60_000);
  expect(sockets.length).toBeLessThan(15);
  expect(watcher.now).toMatchObject({ jobs: {}, error: { code: "bad_message" } });
});

// More projects than a connection may have

test("of 150 projects, the 50 that find no place are said, and asked for once a second at most", async () => {
  const { client, sockets } = scripted({}, (socket) => {
    socket.accept();
    let read = 0;
    const served = new Set<string>();
    setInterval(() => {
      for (; read < socket.sent.length; read++) {
        const message = socket.sent[read]!;
        if (message.type === "unsubscribe") served.delete(message.projectId);
        if (message.type !== "subscribe") continue;
        const { projectId } = message;
        if (served.size < 100 || served.has(projectId)) socket.subscribed(0, true, projectId);
        else socket.say({ type: "error", code: "too_many_projects", message: "At most 100", projectId });
        if (served.size < 100) served.add(projectId);
      }
    }, 10);
  });
  const watchers = Array.from({ length: 150 }, (_, i) => watch(client, `project_${i}`));
  await advance(1_000);
  const before = sockets[0]!.sent.length;
  await advance(60_000);
  expect(sockets[0]!.sent.length - before).toBeLessThanOrEqual(60);
  const refused = watchers.filter(({ now }) => now.status !== "connected");
  expect(refused).toHaveLength(50);
  expect(refused[0]!.now.error).toEqual({ code: "too_many_projects", message: "At most 100" });
  for (const { leave } of watchers.slice(0, 50)) leave();
  await advance(180_000);
  expect(refused.filter(({ now }) => now.status !== "connected")).toEqual([]);
});

// What the page itself may do

test("`close` disconnects until `reconnect`; what is shown stays, as stale", async () => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  shown.client.close();
  await frame();
  expect(shown.last.isLeft).toBe(true);
  expect(shown.now).toMatchObject({
    status: "disconnected",
    isStale: true,
    error: null,
    retryAt: null,
    jobs: { a: { percent: 10 } },
  });
  expect(shown.client.getStatus()).toBe("disconnected");
  shown.client.probe();
  watch(shown.client, "project_2");
  await advance(60_000);
  expect(shown.sockets).toHaveLength(1);
  shown.client.reconnect();
  await shown.join(1);
  expect(shown.last.asked(P)).toEqual([{ type: "subscribe", projectId: P, since: 1 }]);
  expect(shown.now).toMatchObject({ status: "connected", isStale: false });
});

test("`probe` asks an open connection for a sign of life, and retries a lost one at once", async () => {
  setRandom(0.999);
  const shown = await page();
  shown.client.probe();
  expect(shown.last.pings).toBe(1);
  await advance(3_100); // no answer
  expect(shown.now).toMatchObject({ status: "disconnected", error: { code: "no_answer" } });
  shown.client.probe();
  expect(shown.sockets).toHaveLength(2);
});

test("`probe` of a client that watches nothing connects nothing", async () => {
  const { client, sockets } = scripted();
  client.probe();
  await advance(5_000);
  expect(sockets).toEqual([]);
});

test("`onError` is called once for each error, of the connection or of a project", async () => {
  const onError = vi.fn();
  const shown = await page(0, { onError });
  await shown.hear({ type: "error", code: "unavailable", message: "Look", projectId: P });
  shown.last.end(1012, "restart");
  await frame();
  expect(onError.mock.calls).toEqual([
    [{ code: "unavailable", message: "Look" }, P],
    [{ code: 1012, message: "restart" }, undefined],
  ]);
});

test("an exception in `onError` is reported as uncaught, and the client goes on", async () => {
  const uncaught = vi.fn();
  const { setTimeout: original } = globalThis;
  vi.stubGlobal("setTimeout", (step: () => void, ms?: number) =>
    original(() => {
      try {
        step();
      } catch (error) {
        uncaught(error);
      }
    }, ms),
  );
  const shown = await page(0, {
    onError: () => {
      throw new Error("mine");
    },
  });
  shown.last.end(1006);
  await advance(1_100);
  expect(uncaught).toHaveBeenCalledWith(new Error("mine"));
  expect(shown.sockets).toHaveLength(2);
});
