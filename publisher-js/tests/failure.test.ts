/** What viewers read of an error. */

import { expect, test } from "vitest";
import { describe as inWords, isRetried, reasonFor, retryText } from "../src/failure.js";

class NoVoice extends Error {
  override name = "NoVoice";
}

const dom = (name: string, message: string): DOMException => new DOMException(message, name);

test.each([
  [new Error("no voice"), "no voice", undefined],
  [new TypeError("no voice"), "TypeError: no voice", undefined],
  [new NoVoice("NoVoice: none"), "NoVoice: none", undefined],
  [new NoVoice(), "NoVoice", undefined],
  ["no\n voice", "no voice", undefined],
  [undefined, "", undefined],
  [7, "7", undefined],
  [{ error: { message: "no key" } }, "no key", undefined],
  [new Error('Error 401: {"detail": [{"msg": "no key"}]}'), "Error 401: no key", undefined],
  [new Error("scenes [1, 2]"), "scenes [1, 2]", undefined],
  [dom("AbortError", "This operation was aborted"), "Cancelled", "cancelled"],
  [dom("TimeoutError", "The operation was aborted due to timeout"), "Timed out", "timed_out"],
  [dom("TimeoutError", "no answer of the model"), "Timed out: no answer of the model", "timed_out"],
  [new AggregateError([new Error("one")], "all"), "one", undefined],
  [Object.assign(new Error("connect ETIMEDOUT"), { code: "ETIMEDOUT" }), "connect ETIMEDOUT", undefined],
  [new Error("redis://user:secret@host/0 is away"), "redis://user:***@host/0 is away", undefined],
  [new Error("token=abcdef and Bearer abc"), "token=*** and Bearer ***", undefined],
])("%s", (error, words, reason) => {
  expect(inWords(error)).toBe(words);
  expect(reasonFor(error)).toBe(reason);
});

test("another try", () => {
  expect(retryText("no GPU")).toBe("no GPU; it will be tried again");
  expect(retryText("")).toBe("It will be tried again");
  expect(retryText("x".repeat(3_000))).toHaveLength(2_000);
});

test("which errors are tried again", () => {
  const complaints: unknown[] = [];
  const retried = (willRetry: Parameters<typeof isRetried>[0]): boolean =>
    isRetried(willRetry, new TypeError("x"), (error) => complaints.push(error));
  expect([retried(true), retried(false), retried(TypeError), retried(Error), retried(RangeError)]).toEqual([
    true,
    false,
    true,
    true,
    false,
  ]);
  expect([retried([RangeError, TypeError]), retried((error) => error instanceof RangeError)]).toEqual([true, false]);
  expect(
    retried(() => {
      throw new Error("bug");
    }),
  ).toBe(false);
  expect(complaints).toHaveLength(1);
});
