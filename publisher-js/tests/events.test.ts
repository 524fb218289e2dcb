/** What an event may hold: the rules, limits and words of publisher/events.py. */

import { describe, expect, test } from "vitest";
import { createPublisher, EventError } from "../src/index.js";

// Nothing is sent, and wrong events are errors all the same.
const publisher = createPublisher({ disabled: true });
const progress = { type: "progress", jobId: "j", jobType: "audio", progress: 40 };
const complete = { type: "job_complete", jobId: "j", jobType: "audio" };
const failed = { type: "job_failed", jobId: "j", jobType: "audio", error: "e" };

async function refusal(event: unknown, project: unknown = "p"): Promise<string> {
  try {
    await publisher.broadcastToProject(project as string, event as never);
  } catch (error) {
    expect(error).toBeInstanceOf(EventError);
    return (error as Error).message;
  }
  return "accepted";
}

const deep = (levels: number): object => (levels === 1 ? {} : { a: deep(levels - 1) });

describe("what is refused, in words", () => {
  test.each([
    [{}, "type: is required and must be 'progress', 'job_complete' or 'job_failed'"],
    [{ type: "x" }, "type: must be 'progress', 'job_complete' or 'job_failed', got string (none of these)"],
    [null, "event: must be a JSON object, got null"],
    [[progress], "event: must be a JSON object, got array"],
    [{ ...progress, progress: undefined }, "progress: is required and must be a number from 0 to 100"],
    [{ ...progress, progress: 101 }, "progress: must be a number from 0 to 100, got number (out of range)"],
    [{ ...progress, progress: Number.NaN }, "progress: must be a number from 0 to 100, got number (out of range)"],
    [{ ...progress, progress: "40%" }, "progress: must be a number from 0 to 100, got string"],
    [{ ...progress, jobId: 7 }, "jobId: must be 1 to 128 printable characters, got number"],
    [{ ...progress, jobId: "" }, "jobId: must be 1 to 128 printable characters, got string (empty)"],
    [{ ...progress, jobId: "a\nb" }, "jobId: must be 1 to 128 printable characters, got string (of another form)"],
    [
      { ...progress, jobId: "x".repeat(129) },
      "jobId: must be 1 to 128 printable characters, got string (129 characters)",
    ],
    [
      { ...progress, sentenceId: "\ud800" },
      "sentenceId: must be 1 to 128 printable characters, got string (not valid Unicode)",
    ],
    [
      { ...progress, jobType: "9" },
      "jobType: must be 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter, got string (of another form)",
    ],
    [
      { ...progress, attempt: 2.5 },
      "attempt: must be a whole number from 0 to 9007199254740991, or 'next' in a progress, got number (not whole)",
    ],
    [
      { ...progress, attempt: -1 },
      "attempt: must be a whole number from 0 to 9007199254740991, or 'next' in a progress, got number (out of range)",
    ],
    [
      { ...failed, attempt: "next" },
      "attempt: must be a whole number from 0 to 9007199254740991, or 'next' in a progress: an attempt begins with a progress",
    ],
    [{ ...progress, message: 5 }, "message: must be a string, got number"],
    [
      { ...progress, nextWithin: 0 },
      "nextWithin: must be a number of seconds above 0, and at most 86400, got number (out of range)",
    ],
    [{ ...progress, data: [] }, "data: must be a JSON object of at most 8192 bytes and 16 levels, got array"],
    [
      { ...progress, data: { a: 1n } },
      "data: must be a JSON object of at most 8192 bytes and 16 levels, got object (holds a value of type bigint)",
    ],
    [
      { ...progress, data: { a: new Date(0) } },
      "data: must be a JSON object of at most 8192 bytes and 16 levels, got object (holds a value of type Date)",
    ],
    [
      { ...progress, data: { a: 1 / 0 } },
      "data: must be a JSON object of at most 8192 bytes and 16 levels, got object (holds a number that is not finite)",
    ],
    [
      { ...progress, data: { a: "x".repeat(9_000) } },
      "data: must be a JSON object of at most 8192 bytes and 16 levels, got object (9008 bytes)",
    ],
    [
      { ...progress, data: deep(17) },
      "data: must be a JSON object of at most 8192 bytes and 16 levels, got object (too deep)",
    ],
    [{ ...complete, result: null }, "result: must be a JSON object, got null"],
    [
      { ...complete, result: { file: 7, duration: -1 } },
      "result.file: must be a string of at most 8192 bytes in UTF-8, got number; result.duration: must be a number of seconds from 0 to 9007199254740991, got number (out of range)",
    ],
    [
      { ...complete, result: { file: "é".repeat(5_000) } },
      "result.file: must be a string of at most 8192 bytes in UTF-8, got string (10000 bytes)",
    ],
    [{ ...failed, error: undefined }, "error: is required and must be a string"],
    [
      { ...failed, reason: "x" },
      "reason: must be 'error', 'cancelled', 'timed_out' or 'lost', got string (none of these)",
    ],
  ])("case %#", async (event, words) => {
    expect(await refusal(event)).toBe(words);
  });

  test("a cycle is too deep", async () => {
    const data: Record<string, unknown> = {};
    data["own"] = data;
    expect(await refusal({ ...progress, data })).toContain("too deep");
  });

  test("fields at their limits make no event of more than 32 KiB", async () => {
    const result = { file: "\\".repeat(8_192) };
    const event = { ...complete, jobId: "\u{1F4A9}".repeat(128), result, data: { a: "\\".repeat(4_000) } };
    expect(await refusal(event)).toBe("accepted");
  });

  test("a bad project id, before anything else is looked at", async () => {
    const rule = "projectId: must be 1 to 128 characters of A-Z a-z 0-9 _ - . : that begin with a letter or digit";
    expect(await refusal(progress, "a b")).toBe(`${rule}, got string (of another form)`);
    expect(await refusal(progress, "")).toBe(`${rule}, got string (empty)`);
    expect(await refusal(progress, 7)).toBe(`${rule}, got number`);
  });

  test("of many events the first that does not fit, by its place", async () => {
    const sending = publisher.broadcastMany([
      ["p", progress as never],
      ["p", { ...progress, progress: 101 } as never],
    ]);
    await expect(sending).rejects.toMatchObject({
      index: 1,
      message: "events[1].progress: must be a number from 0 to 100, got number (out of range)",
    });
  });

  test("several fields at once, each by its name", async () => {
    await expect(publisher.broadcastToProject("p", { type: "progress" } as never)).rejects.toMatchObject({
      errors: { jobId: expect.any(String), jobType: expect.any(String), progress: expect.any(String) },
    });
  });
});
