/** What a page keeps: whole jobs, as many as the gateway does; ended ones go first, and nothing flaps. */

import { expect, test } from "vitest";
import { advance, complete, frame, P, page, progress, setRandom, withFakeTime } from "./support.js";

withFakeTime();

const fill = (count: number, first = 0): object[] =>
  Array.from({ length: count }, (_, i) => progress(`job_${first + i}`, 10, { seq: first + i + 1 }));

test("of more than 1,000 jobs, those that ended longest ago go first", async () => {
  const shown = await page();
  shown.last.say(...fill(1_000), complete("job_500", { seq: 2_000 }), complete("job_400", { seq: 2_001 }));
  await shown.hear(progress("new_1", 1, { seq: 2_002 }));
  expect(Object.keys(shown.now.jobs)).toHaveLength(1_000);
  expect(shown.now.jobs).not.toHaveProperty("job_500");
  await shown.hear(progress("new_2", 1, { seq: 2_003 }), progress("new_3", 1, { seq: 2_004 }));
  expect(shown.now.jobs).not.toHaveProperty("job_400");
  expect(shown.now.jobs).toHaveProperty("job_0");
  expect(shown.now.jobCounts).toEqual({ running: 1_000, ended: 0, leftOut: 1 });
});

test("2,000 running jobs: no row comes and goes, and the page is told how many there are", async () => {
  const shown = await page();
  shown.last.say(...fill(2_000));
  await frame();
  const names = Object.keys(shown.now.jobs);
  expect(names).toHaveLength(1_000);
  expect(shown.now.jobCounts).toEqual({ running: 1_000, ended: 0, leftOut: 1_000 });
  for (let seq = 3_000; seq < 5_000; seq++) shown.last.say(progress(`job_${seq % 2_000}`, 20, { seq }));
  await frame();
  expect(Object.keys(shown.now.jobs)).toEqual(names);
  expect(shown.events).toHaveLength(4_000); // all are told
});

test("a job that was left out tells its end, and is counted no longer", async () => {
  const shown = await page(0, { jobLimit: 2 });
  await shown.hear(...fill(2));
  await shown.hear(...fill(1, 2), complete("job_2", { seq: 10 }));
  expect(shown.ends).toMatchObject([{ what: "job", job: { jobId: "job_2", status: "complete" } }]);
  expect(shown.now.jobCounts).toEqual({ running: 2, ended: 0, leftOut: 0 });
});

test("a running job whose promised event is overdue makes room", async () => {
  const shown = await page(0, { jobLimit: 2 });
  await shown.hear(progress("dead", 1, { seq: 1, nextWithin: 1 }), progress("lives", 1, { seq: 2 }));
  await advance(3_000);
  await shown.hear(progress("new", 1, { seq: 3 }));
  expect(Object.keys(shown.now.jobs)).toEqual(["lives", "new"]);
  expect(shown.now.jobCounts).toEqual({ running: 2, ended: 0, leftOut: 1 });
});

test("when there is room again the jobs that were left out come whole, and nothing is told twice", async () => {
  const shown = await page(0, { jobLimit: 2 });
  await shown.hear(...fill(2));
  await shown.hear(complete("late", { seq: 3, sentenceId: "s1" }), progress("late", 50, { seq: 4, sentenceId: "s2" }));
  expect(shown.now.jobs).not.toHaveProperty("late");
  await advance(15_000);
  expect(shown.last.asked()).toHaveLength(1); // there is no room
  await shown.hear(complete("job_0", { seq: 5 }));
  setRandom(0);
  const told = [shown.events.length, shown.ends.length];
  await advance(1_000);
  expect(shown.last.asked()).toEqual([
    { type: "subscribe", projectId: P },
    { type: "subscribe", projectId: P, since: 0 },
  ]);
  await shown.hear(
    { type: "subscribed", projectId: P, seq: 5, recovered: true },
    progress("job_1", 10, { seq: 2 }),
    complete("late", { seq: 3, sentenceId: "s1" }),
    progress("late", 50, { seq: 4, sentenceId: "s2" }),
    complete("job_0", { seq: 5 }),
  );
  expect(shown.job("late")).toMatchObject({ status: "running", percent: 75 });
  expect(Object.keys(shown.now.jobs).sort()).toEqual(["job_1", "late"]);
  expect(shown.now.jobCounts).toEqual({ running: 2, ended: 0, leftOut: 0 });
  expect([shown.events.length, shown.ends.length]).toEqual(told);
  expect(shown.snapshots.filter(({ isStale }) => isStale)).toHaveLength(
    shown.snapshots.filter(({ status }) => status !== "connected").length,
  );
});

test("10,000 parts are kept, and jobs whole: one that is too many is left out, never halved", async () => {
  const shown = await page();
  for (let job = 0; job < 4; job++) {
    for (let s = 0; s < 3_000; s++) {
      shown.last.say(progress(`job_${job}`, 10, { seq: job * 3_000 + s + 1, sentenceId: `s${s}` }));
    }
  }
  await frame();
  const sizes = Object.values(shown.now.jobs).map((job) => Object.keys(job!.sentences).length);
  expect(sizes).toEqual([3_000, 3_000, 3_000]);
  expect(shown.now.jobCounts).toEqual({ running: 3, ended: 0, leftOut: 1 });
});

test("a page that opens beside more running jobs than it keeps shows those that spoke last", async () => {
  const shown = await page(6, { jobLimit: 2 });
  await shown.hear(...fill(6));
  expect(Object.keys(shown.now.jobs)).toEqual(["job_4", "job_5"]);
  expect(shown.now.jobCounts).toEqual({ running: 2, ended: 0, leftOut: 4 });
});

test("a single job with more than 10,000 sentences is left out as a whole, and said; its end is still told", async () => {
  const shown = await page();
  const say = (n: number): void => shown.last.say(progress("huge", 10, { sentenceId: `s${n}` }));
  for (let n = 0; n < 10_000; n++) say(n);
  await frame();
  expect(Object.keys(shown.job("huge").sentences)).toHaveLength(10_000);
  for (let n = 10_000; n < 10_100; n++) say(n);
  await frame();
  expect(shown.now.jobs).toEqual({});
  expect(shown.now.jobCounts).toEqual({ running: 0, ended: 0, leftOut: 1 });
  await shown.hear(complete("huge"));
  expect(shown.ends).toMatchObject([{ what: "job", job: { jobId: "huge", status: "complete" } }]);
});

test("a replay that never ends does not fill the memory: it is taken after 20,000 events", async () => {
  const shown = await page(9);
  for (let n = 0; n <= 20_000; n++) shown.last.say(progress("a", 10, { seq: 5 }));
  await frame();
  expect(shown.now).toMatchObject({ isStale: false, jobs: { a: { percent: 10 } } });
});
