import { expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, frame, P, Q, setRandom, watch, withFakeTime } from "./support.js";

withFakeTime();

const going = (jobId: string, progress: number) => ({ type: "progress", jobId, jobType: "audio", progress }) as const;
const done = (jobId: string) => ({ type: "job_complete", jobId, jobType: "audio", result: {} }) as const;

test("the fake says `connected`, then `subscribed`, and answers a moment later, as a network does", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  expect(gateway.attempts).toBe(0);
  expect(gateway.connections).toEqual([]);
  await frame();
  expect(gateway.attempts).toBe(1);
  expect(gateway.connections).toHaveLength(1);
  expect(gateway.connections[0]).toMatchObject({ url: "ws://gateway.test/ws" });
  expect([...gateway.connections[0]!.projects]).toEqual([P]);
  expect(watcher.now.status).toBe("connected");
});

test("the fake speaks to a plain WebSocket user: open, messages in order, close", async () => {
  const gateway = new FakeGateway();
  gateway.publish(P, going("a", 10));
  const said: unknown[] = [];
  const socket = new gateway.WebSocket("ws://any.test/ws");
  socket.onopen = () => said.push("open");
  socket.onmessage = ({ data }) => said.push((JSON.parse(data as string) as { type: string }).type);
  socket.onclose = ({ code, reason }) => said.push([code, reason]);
  await frame();
  socket.send(JSON.stringify({ type: "subscribe", projectId: P }));
  socket.send(JSON.stringify({ type: "ping" }));
  socket.send(JSON.stringify({ type: "unsubscribe", projectId: P }));
  await frame();
  gateway.publish(P, going("a", 20)); // nobody watches any more
  await frame();
  socket.close(1000, "bye");
  await frame();
  expect(said).toEqual(["open", "connected", "subscribed", "progress", "pong", "unsubscribed", [1000, "bye"]]);
  expect(gateway.connections).toEqual([]);
});

test("every event has a seq that rises, also within one microsecond, and is the clock's", () => {
  const gateway = new FakeGateway();
  const seqs = Array.from({ length: 5 }, () => gateway.publish(P, going("a", 1)));
  expect(seqs[0]).toBe(Date.now() * 1_000);
  expect(new Set(seqs).size).toBe(5);
  expect(seqs).toEqual([...seqs].sort());
});

test("who comes new is replayed the last event of each job, in order of seq", async () => {
  const gateway = new FakeGateway();
  gateway.publish(P, going("a", 10));
  const b = gateway.publish(P, going("b", 10));
  const a = gateway.publish(P, done("a"));
  gateway.publish(Q, going("elsewhere", 10));
  const watcher = watch(gateway.client());
  await frame();
  expect(watcher.events.map(({ seq, isReplay }) => [seq, isReplay])).toEqual([
    [b, true],
    [a, true],
  ]);
});

test("sentences are remembered each on its own", async () => {
  const gateway = new FakeGateway();
  for (const sentenceId of ["s1", "s2"]) gateway.publish(P, { ...going("a", 10), sentenceId });
  const watcher = watch(gateway.client());
  await frame();
  expect(Object.keys(watcher.job("a").sentences)).toEqual(["s1", "s2"]);
});

test("who comes back is replayed only what is newer than its cursor", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.publish(P, going("a", 10));
  const last = gateway.publish(P, going("b", 10));
  await frame();
  gateway.closeAll();
  gateway.publish(P, done("c"));
  await advance(2_000);
  expect(gateway.connections[0]!.received).toEqual([{ type: "subscribe", projectId: P, since: last }]);
  expect(watcher.events.map(({ jobId, isReplay }) => [jobId, isReplay])).toEqual([
    ["a", false],
    ["b", false],
    ["c", true],
  ]);
  expect(watcher.now.recovered).toBe(true);
});

test("on the wire: a replay with a cursor brings what is newer, and all that is known if the cursor is unknown", async () => {
  const gateway = new FakeGateway();
  const first = gateway.publish(P, going("a", 10))!;
  const second = gateway.publish(P, going("b", 10))!;
  const said: unknown[] = [];
  const socket = new gateway.WebSocket("ws://any.test/ws");
  socket.onmessage = ({ data }) => {
    const { type, seq, recovered } = JSON.parse(data as string) as Record<string, unknown>;
    said.push(type === "subscribed" ? [seq, recovered] : (seq ?? type));
  };
  await frame();
  for (const since of [undefined, 0, first, second, 1, second + 1]) {
    said.length = 0;
    socket.send(JSON.stringify({ type: "subscribe", projectId: P, since }));
    await frame();
    const isKnown = since === first || since === second || !since;
    const newer = !since || !isKnown ? [first, second] : [first, second].filter((seq) => seq > since);
    expect([since, ...said]).toEqual([since, [second, isKnown], ...newer]);
  }
});

test("`forget` forgets: who comes back is told that something may be missing", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.publish(P, going("a", 10));
  await frame();
  gateway.forget();
  gateway.closeAll();
  await advance(2_000);
  expect(watcher.now).toMatchObject({ status: "connected", recovered: false, isStale: true });
  const late = watch(gateway.client());
  await frame();
  expect(late.now).toMatchObject({ recovered: true, isStale: false, jobs: {} });
});

test("after `forget` seq goes on rising, also while the test's clock stands still: no cursor is met again by chance", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  const before = gateway.publish(P, going("a", 10))!;
  await frame();
  gateway.closeAll();
  await frame();
  vi.setSystemTime(before / 1_000);
  gateway.forget();
  expect(gateway.publish(P, done("a"))).toBeGreaterThan(before);
  await advance(2_000);
  expect(watcher.now.recovered).toBe(false);
  expect(watcher.ends).toHaveLength(1);
});

test("a gateway that is down refuses, and counts the attempts", async () => {
  setRandom(0);
  const gateway = new FakeGateway();
  gateway.isUp = false;
  const watcher = watch(gateway.client());
  await advance(1_700);
  expect(gateway.attempts).toBe(4);
  expect(gateway.connections).toEqual([]);
  expect(watcher.now).toMatchObject({ status: "disconnected", error: { code: 1006 } });
  gateway.isUp = true;
  await advance(500);
  expect(watcher.now.status).toBe("connected");
});

test("a gateway that does not answer keeps its sockets open, and says nothing", async () => {
  const gateway = new FakeGateway();
  gateway.isAnswering = false;
  const watcher = watch(gateway.client());
  await advance(5_000);
  gateway.publish(P, going("a", 10));
  await frame();
  expect(gateway.connections).toHaveLength(1);
  expect(watcher.now).toMatchObject({ status: "connecting", jobs: {} });
});

test("a gateway that answers again after a short silence has lost nothing: the same sockets go on", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.isAnswering = false;
  gateway.publish(P, done("a"));
  const other = watch(gateway.client(), Q);
  await advance(2_000);
  gateway.isAnswering = true;
  await advance(10_000);
  expect(gateway.attempts).toBe(2);
  expect(watcher.ends).toHaveLength(1);
  expect(other.now.status).toBe("connected");
});

test.each([
  ["a lost network", undefined, 1006],
  ["a restart", 1012, 1012],
  ["a refusal for good", 4401, 4401],
])("`closeAll` ends all connections: %s", async (_name, code, expected) => {
  const gateway = new FakeGateway();
  const watchers = [watch(gateway.client()), watch(gateway.client(), Q)];
  await frame();
  gateway.closeAll(code, "why");
  await frame();
  expect(gateway.connections).toEqual([]);
  for (const { now } of watchers) {
    expect(now).toMatchObject({ status: "disconnected", error: { code: expected, message: "why" } });
  }
});

test("one connection can be ended alone", async () => {
  const gateway = new FakeGateway();
  const [first, second] = [watch(gateway.client()), watch(gateway.client())];
  await frame();
  gateway.connections[0]!.close(4401);
  await frame();
  expect([first.now.status, second.now.status]).toEqual(["disconnected", "connected"]);
});

test("`goAway` has the clients move, and serves on until they have", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.goAway([3_000, 3_000]);
  await advance(2_900);
  expect(gateway.attempts).toBe(1);
  gateway.publish(P, done("a"));
  await advance(200);
  expect(gateway.attempts).toBe(2);
  expect(gateway.connections).toHaveLength(1);
  expect(watcher.ends).toHaveLength(1);
  expect(watcher.now.status).toBe("connected");
});

test("`setStale` tells those who are there and those who come", async () => {
  const gateway = new FakeGateway();
  const early = watch(gateway.client());
  await frame();
  gateway.setStale(true);
  const late = watch(gateway.client());
  await frame();
  expect([early.now.isStale, late.now.isStale]).toEqual([true, true]);
  gateway.setStale(false);
  await frame();
  expect([early.now.isStale, late.now.isStale]).toEqual([false, false]);
});

test("a test can have it say anything: an object as JSON, a text as it stands", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  const [connection] = gateway.connections;
  connection!.send({ type: "progress", projectId: P, jobId: "plain", jobType: "audio", progress: 5 });
  await frame();
  expect(watcher.job("plain").seq).toBeUndefined();
  connection!.send("<html>");
  await frame();
  expect(watcher.now.status).toBe("disconnected");
  expect(watcher.now.error).not.toBeNull();
});

test("a client of the fake takes the usual options", async () => {
  const gateway = new FakeGateway();
  const client = gateway.client({ url: "ws://other.test/live", getToken: () => "t", historyLimit: 2 });
  const watcher = watch(client);
  await frame();
  expect(gateway.connections[0]!.url).toBe("ws://other.test/live");
  expect(gateway.connections[0]!.received[0]).toEqual({ type: "auth", token: "t" });
  for (let i = 0; i < 5; i++) gateway.publish(P, going("a", i));
  await frame();
  expect(watcher.now.events).toHaveLength(2);
});

// Tokens

test("before `allow` everybody may watch, and a token is taken whatever it is", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client({ getToken: () => "any" }));
  await frame();
  expect(watcher.now).toMatchObject({ status: "connected", error: null });
});

test("after `allow` a client needs one of its tokens: without one, or with a bad one, it is refused", async () => {
  const gateway = new FakeGateway();
  gateway.allow("good");
  const [good, bad, none] = [() => "good", () => "bad", undefined].map((getToken) =>
    watch(gateway.client({ getToken })),
  );
  await advance(30_000);
  expect(good!.now).toMatchObject({ status: "connected", error: null });
  expect(bad!.now).toMatchObject({ status: "disconnected", error: { code: 4401, message: "bad token" } });
  expect(none!.now).toMatchObject({ status: "disconnected", error: { code: 4401, message: "no token" } });
});

test.each([
  ["expire", "token expired"],
  ["revoke", "token revoked"],
] as const)("`%s` ends the connections of a token; the page comes back with the next one", async (name, reason) => {
  const gateway = new FakeGateway();
  gateway.allow("first");
  let token = "first";
  const onError = vi.fn();
  const watcher = watch(gateway.client({ getToken: () => token, onError }));
  await advance(6_000);
  gateway.publish(P, going("a", 10));
  [token] = ["second"];
  gateway.allow("second");
  gateway[name]("first");
  await advance(2_000);
  expect(onError).toHaveBeenCalledExactlyOnceWith({ code: "no_token", message: reason }, undefined);
  expect(watcher.now).toMatchObject({ status: "connected", error: null, jobs: { a: { percent: 10 } } });
});

test("a project outside of the grant is forbidden, the others go on; a wider grant and `reconnect` give it", async () => {
  const gateway = new FakeGateway();
  gateway.allow("t", { projects: [P, "film_*"] });
  const client = gateway.client({ getToken: () => "t" });
  const [mine, film, other] = [watch(client), watch(client, "film_1"), watch(client, Q)];
  await frame();
  expect([mine.now.status, film.now.status]).toEqual(["connected", "connected"]);
  expect(other.now).toMatchObject({ status: "disconnected", error: { code: "forbidden" } });
  gateway.allow("t", { projects: [Q] });
  await frame();
  expect(mine.now).toMatchObject({ status: "disconnected", isStale: true, error: { code: "forbidden" } });
  client.reconnect();
  await frame();
  expect(other.now).toMatchObject({ status: "connected", error: null });
});

test("a refresh for another user ends the connection, and the next one is his", async () => {
  setRandom(0);
  const gateway = new FakeGateway();
  gateway.allow("ann", { sub: "ann", expiresIn: 10_000 });
  gateway.allow("bob", { sub: "bob" });
  let user = "ann";
  const watcher = watch(gateway.client({ getToken: () => user }));
  await frame();
  [user] = ["bob"];
  await advance(6_020);
  expect(watcher.now.error).toEqual({ code: "no_token", message: "another user" });
  await advance(2_000);
  expect(watcher.now).toMatchObject({ status: "connected", error: null });
  expect(gateway.attempts).toBe(2);
});
