import { expect, test } from "vitest";
import { complete, failed, frame, page, progress, withFakeTime } from "./support.js";

withFakeTime();

test("a job is known by its sentences: their mean, until all have ended", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 40, { seq: 1, sentenceId: "s1", message: "first" }),
    progress("a", 60, { seq: 2, sentenceId: "s2" }),
  );
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 50, isTerminal: false });
  expect(shown.job("a").sentences).toMatchObject({ s1: { percent: 40, message: "first" }, s2: { percent: 60 } });
  await shown.hear(complete("a", { seq: 3, sentenceId: "s1" }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 80, isTerminal: false });
  expect(shown.job("a").sentences).toMatchObject({ s1: { status: "complete", result: { file: "a.mp3" } } });
  await shown.hear(complete("a", { seq: 4, sentenceId: "s2" }));
  expect(shown.job("a")).toMatchObject({ status: "complete", percent: 100, isTerminal: true });
});

test("a job of which one sentence failed has failed when all have ended, and says why", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1, sentenceId: "s2" }),
    failed("a", { seq: 2, sentenceId: "s1", error: "no voice" }),
  );
  expect(shown.job("a").status).toBe("running");
  expect(shown.job("a").error).toBeUndefined();
  await shown.hear(complete("a", { seq: 3, sentenceId: "s2" }));
  expect(shown.job("a")).toMatchObject({ status: "failed", isTerminal: true, error: "no voice" });
});

test("each sentence has its own percent, end and seq", async () => {
  const shown = await page();
  await shown.hear(
    complete("a", { seq: 10, attempt: 0, sentenceId: "s1" }),
    progress("a", 20, { seq: 9, attempt: 0, sentenceId: "s2" }),
    progress("a", 30, { seq: 12, attempt: 0, sentenceId: "s2" }),
    progress("a", 10, { seq: 13, attempt: 0, sentenceId: "s1" }), // after its end
    progress("a", 90, { seq: 11, attempt: 0, sentenceId: "s2" }), // older
  );
  expect(shown.job("a").sentences).toMatchObject({
    s1: { status: "complete" },
    s2: { status: "running", percent: 30 },
  });
  expect(shown.events.map(({ seq }) => seq)).toEqual([10, 9, 12]);
});

test("what a job says of itself counts more than its sentences", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 10, { seq: 1, message: "the whole" }),
    progress("a", 90, { seq: 2, sentenceId: "s1", message: "a part" }),
  );
  expect(shown.job("a")).toMatchObject({ percent: 10, message: "the whole" });
  await shown.hear(complete("a", { seq: 3, result: { file: "whole.mp3" } }));
  expect(shown.job("a")).toMatchObject({ status: "complete", percent: 100, result: { file: "whole.mp3" } });
});

test("a job is the mean of its sentences, also when another one is first heard of", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, sentenceId: "s1" }), progress("a", 0, { seq: 2, sentenceId: "s2" }));
  expect(shown.job("a").percent).toBe(40);
});

test("a sum of sentences has no drift, however many events made it", async () => {
  const shown = await page();
  for (let seq = 1; seq <= 3_000; seq++) {
    shown.last.say(progress("a", (seq * 0.1) % 100, { seq, sentenceId: `s${seq % 7}` }));
  }
  shown.last.say(...[0, 1, 2, 3, 4, 5, 6].map((s) => progress("a", 0.1, { seq: 4_000 + s, sentenceId: `s${s}` })));
  await frame();
  expect(shown.job("a").percent).toBe(0.1);
});

test("a sentence of an earlier attempt is refused, and a later attempt's replaces all others", async () => {
  const shown = await page();
  await shown.hear(
    progress("a", 50, { seq: 1, attempt: 1, sentenceId: "s1" }),
    progress("a", 90, { seq: 2, attempt: 0, sentenceId: "s2" }),
  );
  expect(shown.job("a")).toMatchObject({ percent: 50, attempt: 1 });
  await shown.hear(progress("a", 5, { seq: 3, attempt: 2, sentenceId: "s2" }));
  expect(shown.job("a")).toMatchObject({ percent: 5, attempt: 2 });
  expect(Object.keys(shown.job("a").sentences)).toEqual(["s2"]);
});

test("a job that begins to speak for itself shows what it says", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, sentenceId: "s1" }), progress("a", 10, { seq: 2 }));
  expect(shown.job("a").percent).toBe(10);
});

test("a job that ended by its own word stays ended, though a sentence goes on", async () => {
  const shown = await page();
  await shown.hear(complete("a", { seq: 1 }), progress("a", 20, { seq: 2, sentenceId: "s1" }));
  expect(shown.job("a")).toMatchObject({ status: "complete", percent: 100, isTerminal: true });
  expect(shown.job("a").sentences).toMatchObject({ s1: { status: "running", percent: 20 } });
});

test("a job whose sentences are tried again begins anew", async () => {
  const shown = await page();
  await shown.hear(
    failed("a", { seq: 1, attempt: 0, sentenceId: "s1" }),
    complete("a", { seq: 2, attempt: 0, sentenceId: "s2" }),
  );
  expect(shown.job("a")).toMatchObject({ status: "failed", isTerminal: true });
  await shown.hear(progress("a", 10, { seq: 3, attempt: 1, sentenceId: "s1" }));
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 10, isTerminal: false });
  expect(shown.job("a").error).toBeUndefined();
});
