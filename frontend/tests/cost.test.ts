/** An event costs the same, whatever the size of its job: counted here, timed by `npm run bench`. */

import { expect, test } from "vitest";
import { Jobs } from "../src/jobs.js";
import { type JobEvent, valuesOf } from "../src/state.js";
import { full } from "./play.js";

/** How often the events of a job with so many sentences are looked at, while 100 arrive and `draw` follows each. */
function looks(sentences: number, draw: (jobs: Jobs) => unknown): number {
  let [count, seq] = [0, 0];
  const event = (i: number, progress: number): JobEvent => {
    const made = full({ sentenceId: `s${i % sentences}`, seq: ++seq, attempt: 0 });
    return Object.defineProperty(made, "progress", {
      enumerable: true,
      get() {
        count++;
        return progress;
      },
    });
  };
  const jobs = new Jobs(1_000);
  for (let i = 0; i < sentences; i++) jobs.apply(event(i, 0), 0);
  draw(jobs);
  count = 0;
  for (let i = 0; i < 100; i++) {
    jobs.apply(event(i, 50), 0);
    draw(jobs);
  }
  return count;
}

test("an event in a job of 5,000 sentences looks at no more than one in a job of 100", () => {
  expect(looks(5_000, () => {})).toBe(looks(100, () => {}));
});

test("so does a snapshot after each event, as long as no page reads the sentences", () => {
  const draw = (jobs: Jobs): unknown => jobs.byId["j"]!.percent;
  expect(looks(5_000, draw)).toBe(looks(100, draw));
});

test("a page that reads the sentences makes objects only of those that changed", () => {
  const draw = (jobs: Jobs): unknown => valuesOf(jobs.byId["j"]!.sentences);
  expect(looks(5_000, draw)).toBe(looks(100, draw));
});
