import { expect, test } from "vitest";
import { complete, failed, page, progress, withFakeTime } from "./support.js";

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
    progress("a", 10, { seq: 12, attempt: 0, sentenceId: "s2" }),
    progress("a", 10, { seq: 13, attempt: 0, sentenceId: "s1" }), // after its end
    progress("a", 90, { seq: 11, attempt: 0, sentenceId: "s2" }), // older
  );
  expect(shown.job("a").sentences).toMatchObject({
    s1: { status: "complete" },
    s2: { status: "running", percent: 20 },
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

test("a job's percent does not run backward when another sentence begins", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, sentenceId: "s1" }), progress("a", 0, { seq: 2, sentenceId: "s2" }));
  expect(shown.job("a").percent).toBe(80);
});

test("a job's percent does not run backward while its sentences are in different attempts", async () => {
  const shown = await page();
  await shown.hear(progress("a", 50, { seq: 1, attempt: 1, sentenceId: "s1" }));
  await shown.hear(progress("a", 0, { seq: 2, attempt: 0, sentenceId: "s2" }));
  const before = shown.job("a").percent;
  await shown.hear(progress("a", 52, { seq: 3, attempt: 1, sentenceId: "s1" }));
  expect(shown.job("a").percent).toBeGreaterThanOrEqual(before);
});

test("a job's percent does not run backward when it begins to speak for itself", async () => {
  const shown = await page();
  await shown.hear(progress("a", 80, { seq: 1, sentenceId: "s1" }), progress("a", 10, { seq: 2 }));
  expect(shown.job("a").percent).toBe(80);
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
  expect(shown.job("a")).toMatchObject({ status: "running", percent: 55, isTerminal: false });
  expect(shown.job("a").error).toBeUndefined();
});
