import { expect, test } from "vitest";
import { advance, complete, frame, P, page, progress, setRandom, watch, withFakeTime } from "./support.js";

withFakeTime();

/** Nothing that a page shows as a text is an object: React would throw. */
function expectShowable(shown: { now: { jobs: object; error: unknown; lastEvent: unknown } }): void {
  const texts = ["message", "error", "jobId", "sentenceId", "status", "code"];
  JSON.stringify([shown.now.jobs, shown.now.error, shown.now.lastEvent], (key, value: unknown) => {
    const isShowable = typeof value !== "object" || value === null;
    if (texts.includes(key)) expect([key, value, isShowable]).toEqual([key, value, true]);
    return value;
  });
  for (const job of Object.values(shown.now.jobs) as { percent: unknown; status: unknown }[]) {
    expect(job.percent).toBeTypeOf("number");
    expect(["running", "complete", "failed"]).toContain(job.status);
  }
}

const ID = { projectId: P, jobId: "a", jobType: "audio" };

test.each([
  ["no JSON", "<html><body>502 Bad Gateway</body></html>"],
  ["an empty text", ""],
  ["half a message", '{"type":"progress","projectId":"project_1","jo'],
  ["null", "null"],
  ["true", "true"],
  ["a number", "42"],
  ["a text", '"progress"'],
  ["an array", "[]"],
  ["an array of messages", '[{"type":"pong"}]'],
  ["an object without a type", "{}"],
  ["a type that is null", '{"type":null}'],
  ["a type that is a number", '{"type":1}'],
  ["a type that is an object", '{"type":{}}'],
  ["deep nesting", "[".repeat(100_000)],
  ["binary data", new ArrayBuffer(8)],
  ["a blob", new Blob(["{}"])],
  ["nothing", undefined],
])("rubbish (%s): `error` is set, and the page reconnects with back-off", async (_name, rubbish) => {
  const shown = await page();
  await shown.hear(progress("a", 10, { seq: 1 }));
  await shown.hear(rubbish);
  expect(shown.now).toMatchObject({ status: "disconnected", isStale: true, jobs: { a: { percent: 10 } } });
  expect(shown.now.error).toMatchObject({ message: expect.any(String) });
  expect(shown.sockets[0]!.isLeft).toBe(true);
  await advance(1_000);
  expect(shown.sockets).toHaveLength(2);
  await shown.join(1);
  expect(shown.now).toMatchObject({ status: "connected", error: null });
});

test("a server that sends nothing but rubbish is asked less and less often", async () => {
  setRandom(0.999);
  const shown = await page();
  const times: number[] = [];
  for (let i = 1; i < 7; i++) {
    shown.last.say("rubbish");
    while (shown.sockets.length <= i) await advance(50);
    times.push(shown.last.madeAt);
    shown.last.accept();
  }
  const waits = times.slice(1).map((time, i) => time - times[i]!);
  for (let i = 1; i < 4; i++) expect(waits[i]).toBeGreaterThan(waits[i - 1]! * 1.5);
  expect(waits.at(-1)).toBeGreaterThan(15_000);
});

test.each(["subscribed_2", "", "toString", "constructor", "__proto__", "hasOwnProperty"])(
  "an unknown type (%j) sets `error`, and the connection is kept",
  async (type) => {
    const shown = await page();
    await shown.hear({ type, ...ID, projectId: undefined, jobId: undefined });
    expect(shown.now).toMatchObject({ status: "connected", isStale: false });
    expect(shown.now.error).toMatchObject({ message: expect.any(String) });
    await shown.hear(complete("a", { seq: 1 }));
    expect(shown.ends).toHaveLength(1);
    expect(shown.sockets).toHaveLength(1);
  },
);

test.each(["job_paused", "toString", "constructor", "valueOf"])(
  "an event of an unknown type (%j) is none: no job, no callback, but an `error`",
  async (type) => {
    const shown = await page();
    await shown.hear({ type, ...ID, seq: 1, progress: 10, result: {}, error: "" });
    expect(shown.now).toMatchObject({ status: "connected", jobs: {}, lastEvent: null });
    expect(shown.now.error).not.toBeNull();
    expect([shown.events, shown.ends]).toEqual([[], []]);
  },
);

test.each([
  ["progress without a job", { type: "progress", projectId: P, jobType: "audio", progress: 1, seq: 1 }],
  ["progress without progress", { type: "progress", ...ID, seq: 1 }],
  ["an end without result", { type: "job_complete", ...ID, seq: 1 }],
  ["an end whose result is null", { type: "job_complete", ...ID, seq: 1, result: null }],
  ["a failure without error", { type: "job_failed", ...ID, seq: 1 }],
  ["`subscribed` without seq", { type: "subscribed", projectId: P, recovered: true }],
  ["`going_away` without a window", { type: "going_away" }],
  ["a progress that is a text", { type: "progress", ...ID, progress: "40", seq: 1 }],
  ["a progress that is an object", { type: "progress", ...ID, progress: {}, seq: 1 }],
  ["a progress that is a list", { type: "progress", ...ID, progress: [40], seq: 1 }],
  ["a seq that is a text", { type: "progress", ...ID, progress: 40, seq: "1" }],
  ["a seq that is an object", { type: "job_failed", ...ID, error: "x", seq: {} }],
  ["an attempt that is a text", { type: "progress", ...ID, progress: 40, attempt: "1", seq: 1 }],
  ["a promise that is a text", { type: "progress", ...ID, progress: 40, nextWithin: "5", seq: 1 }],
  ["`subscribed` whose seq is a text", { type: "subscribed", projectId: P, seq: "1", recovered: true }],
])("%s is no message: `error` is set, nothing is shown of it, and the page recovers", async (_name, message) => {
  const shown = await page();
  await shown.hear(message);
  expect(shown.now.error).not.toBeNull();
  expect(shown.now.jobs).toEqual({});
  expect([shown.events, shown.ends]).toEqual([[], []]);
  await advance(1_000);
  if (shown.sockets.length > 1) await shown.join();
  await shown.hear(complete("a", { seq: 9 }));
  expect(shown.now).toMatchObject({ status: "connected", jobs: { a: { status: "complete" } } });
});

test.each([
  ["a message that is an object", { type: "progress", ...ID, progress: 1, seq: 1, message: { text: "x" } }],
  ["a message that is a list", { type: "progress", ...ID, progress: 1, seq: 1, message: [{}] }],
  ["a failure whose error is an object", { type: "job_failed", ...ID, seq: 1, error: { code: 1 } }],
  ["a job id that is an object", { type: "progress", ...ID, jobId: { id: 1 }, progress: 1, seq: 1 }],
  ["a job id that is null", { type: "progress", ...ID, jobId: null, progress: 1, seq: 1 }],
  ["a sentence id that is an object", { type: "progress", ...ID, sentenceId: {}, progress: 1, seq: 1 }],
  ["a project id that is a list", { type: "progress", ...ID, projectId: [P], progress: 1, seq: 1 }],
  ["a result that is a text", { type: "job_complete", ...ID, seq: 1, result: "a.mp3" }],
  ["an error whose message is an object", { type: "error", code: "unavailable", message: { a: 1 } }],
  ["an error whose code is an object", { type: "error", code: {}, message: "x", projectId: P }],
  ["an error without anything", { type: "error" }],
  ["`subscribed` without a project", { type: "subscribed", seq: 1, recovered: true }],
  ["a window that is a number", { type: "going_away", reconnectIn: 5 }],
  ["a window that is empty", { type: "going_away", reconnectIn: [] }],
  ["a window of texts", { type: "going_away", reconnectIn: ["a", "b"] }],
  ["`connected` without a name", { type: "connected" }],
])("%s is never an exception in the page", async (_name, message) => {
  const shown = await page();
  await shown.hear(message);
  expectShowable(shown);
  await advance(2_000);
  if (shown.last.readyState === 0) await shown.join();
  await shown.hear(complete("good", { seq: 9 }));
  expect(shown.now).toMatchObject({ status: "connected", jobs: { good: { status: "complete" } } });
  expectShowable(shown);
});

test("unknown fields are no reason to refuse a message", async () => {
  const shown = await page();
  await shown.hear({ ...progress("a", 10, { seq: 1 }), colour: "red" }, { type: "pong", at: 5 });
  expect(shown.now).toMatchObject({ error: null, jobs: { a: { percent: 10 } } });
});

test("rubbish before the first `subscribed` is survived as well", async () => {
  const shown = await page();
  shown.watcher.leave();
  await advance(1_200);
  const again = watch(shown.client);
  shown.last.accept();
  await shown.hear("rubbish");
  expect(again.now).toMatchObject({ status: "disconnected", isStale: true, staleSince: null });
  await advance(1_000);
  await shown.join();
  await frame();
  expect(again.now).toMatchObject({ status: "connected", error: null });
});
