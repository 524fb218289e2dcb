import { expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, complete, frame, P, page, progress, Q, scripted, setRandom, watch, withFakeTime } from "./support.js";

withFakeTime();

// Dead links

test("a link on which nothing was heard for 25 s is asked for a sign of life, once", async () => {
  const shown = await page();
  watch(shown.client, Q); // a second project makes no second ping
  await advance(24_900);
  expect(shown.last.pings).toBe(0);
  await advance(200);
  expect(shown.last.pings).toBe(1);
  await advance(4_500);
  expect(shown.last.pings).toBe(1);
  expect(shown.last.isLeft).toBe(false);
});

test("if nothing is heard for 5 s more, the link is replaced", async () => {
  const shown = await page();
  const heardAt = Date.now() - 20;
  await advance(29_900);
  expect(shown.last.isLeft).toBe(false);
  expect(shown.now.status).toBe("connected");
  await advance(150);
  expect(shown.sockets[0]!.isLeft).toBe(true);
  expect(shown.now).toMatchObject({ status: "disconnected", isStale: true, staleSince: heardAt });
  expect(shown.now.error).not.toBeNull();
  await advance(1_000);
  expect(shown.sockets).toHaveLength(2);
  await shown.join();
  expect(shown.now).toMatchObject({ status: "connected", isStale: false, staleSince: null, error: null });
});

test.each([
  ["a pong", { type: "pong" }],
  ["an event", progress("a", 1, { seq: 1 })],
  ["an event of a project that nobody watches", complete("a", { seq: 1, projectId: Q })],
  ["an error", { type: "error", code: "unknown_type", message: "What?" }],
])("any message is a sign of life: %s", async (_name, message) => {
  const shown = await page();
  await advance(25_100);
  expect(shown.last.pings).toBe(1);
  await advance(4_000);
  await shown.hear(message);
  await advance(24_000);
  expect(shown.sockets).toHaveLength(1);
  expect(shown.last.pings).toBe(1);
  await advance(1_100);
  expect(shown.last.pings).toBe(2);
  await advance(5_100);
  expect(shown.last.isLeft).toBe(true);
});

test("a link that brings something now and then is not asked", async () => {
  const shown = await page();
  for (let seq = 1; seq < 10; seq++) {
    await advance(20_000);
    await shown.hear(progress("a", seq, { seq }));
  }
  expect(shown.last.pings).toBe(0);
  expect(shown.sockets).toHaveLength(1);
});

test("a gateway that answers pings is stayed with for hours", async () => {
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  await advance(2 * 3_600_000);
  expect(gateway.attempts).toBe(1);
  expect(watcher.now).toMatchObject({ status: "connected", isStale: false });
});

test("a gateway that falls silent is replaced, and what was missed is caught up", async () => {
  setRandom(0.5);
  const gateway = new FakeGateway();
  const watcher = watch(gateway.client());
  await frame();
  gateway.isAnswering = false;
  gateway.publish(P, { type: "job_complete", jobId: "a", jobType: "audio", result: {} });
  await advance(30_100);
  gateway.isAnswering = true;
  await advance(1_000);
  expect(gateway.attempts).toBe(2);
  expect(watcher.now.status).toBe("connected");
  expect(watcher.ends).toHaveLength(1);
});

test("a link that opened but was never heard of is dead as well", async () => {
  const { client, sockets } = scripted({}, (socket) => {
    socket.readyState = 1;
    socket.onopen?.({});
  });
  watch(client);
  await advance(29_900);
  expect(sockets).toHaveLength(1);
  await advance(1_200);
  expect(sockets[0]!.isLeft).toBe(true);
  expect(sockets).toHaveLength(2);
});

// Connecting

test("a connection that does not open within 10 s is given up, and tried again", async () => {
  setRandom(0);
  const { client, sockets } = scripted();
  const watcher = watch(client);
  await advance(9_900);
  expect(watcher.now.status).toBe("connecting");
  expect(sockets[0]!.isLeft).toBe(false);
  await advance(150);
  expect(sockets[0]!.isLeft).toBe(true);
  expect(watcher.now).toMatchObject({ status: "disconnected" });
  expect(watcher.now.error).not.toBeNull();
  await advance(500);
  expect(sockets).toHaveLength(2);
});

test("a connection that opens after it was given up is not used", async () => {
  setRandom(0.999);
  const { client, sockets } = scripted();
  const watcher = watch(client);
  await advance(10_100);
  sockets[0]!.accept();
  sockets[0]!.subscribed();
  await frame();
  expect(sockets[0]!.sent).toEqual([]);
  expect([watcher.now.status, client.getStatus()]).toEqual(["disconnected", "disconnected"]);
  await advance(1_000);
  expect(sockets).toHaveLength(2);
});

test("HTML instead of an upgrade, or a refusal: `error` is set, and it is tried again", async () => {
  const { client, sockets } = scripted({}, (socket) => socket.end(1006));
  const watcher = watch(client);
  await frame();
  expect(watcher.now).toMatchObject({ status: "disconnected", error: { code: 1006 } });
  await advance(1_000);
  expect(sockets).toHaveLength(2);
});

test.each([
  ["throws an error", new SyntaxError("The URL 'http://[' is invalid.")],
  ["throws something else", "no"],
])(
  "a WebSocket whose constructor %s is a mistake: it is said once, and not tried again by itself",
  async (_name, thrown) => {
    let tries = 0;
    class Broken {
      constructor() {
        tries++;
        throw thrown;
      }
    }
    const onError = vi.fn();
    const { client } = scripted({ webSocketImpl: Broken as unknown as typeof WebSocket, onError });
    const watcher = watch(client);
    await frame();
    expect(watcher.now).toMatchObject({ status: "disconnected", isStale: true });
    expect(watcher.now.error!.message).toContain(thrown instanceof Error ? thrown.message : thrown);
    await advance(60_000);
    expect(tries).toBe(1);
    expect(onError).toHaveBeenCalledOnce();
    expect(onError.mock.calls[0]![0]).toEqual(watcher.now.error);
    client.reconnect();
    expect(tries).toBe(2);
  },
);

test("a URL function that throws is like a connection that fails", async () => {
  let isReady = false;
  const gateway = scripted({
    url: () => {
      if (!isReady) throw new Error("No URL yet");
      return "ws://gateway.test/ws";
    },
  });
  const watcher = watch(gateway.client);
  await frame();
  expect(watcher.now.status).toBe("disconnected");
  expect(watcher.now.error!.message).toContain("No URL yet");
  isReady = true;
  await advance(1_000);
  expect(gateway.sockets).toHaveLength(1);
});
