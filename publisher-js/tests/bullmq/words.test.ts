/** What `job.updateProgress(...)` says. */

import { expect, test } from "vitest";
import { wordsOf } from "../../src/bullmq/words.js";

test.each([
  [40, { percent: 40 }],
  ["mixing", { message: "mixing" }],
  [
    { percent: 40, message: "mixing" },
    { percent: 40, message: "mixing" },
  ],
  [
    { progress: 40, data: { voice: 2 } },
    { percent: 40, data: { voice: 2 } },
  ],
  [{ percentage: 7 }, { percent: 7 }],
  [{ message: "mixing" }, { message: "mixing" }],
  [{ done: 3, of: 7 }, { data: { done: 3, of: 7 } }],
  [true, null],
  [null, null],
])("%j", (said, words) => {
  expect(wordsOf(said)).toEqual(words);
});
