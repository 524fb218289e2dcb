/** One tracked job, without I/O and without a clock. */

import { describe, expect, test } from "vitest";
import { checkEvent, type End, type Event } from "../src/events.js";
import { JobState, type StateOptions } from "../src/job-state.js";
import { Schedule } from "../src/schedule.js";

const identity = { jobId: "j", jobType: "audio" };
const stateOf = (options: Partial<StateOptions> = {}): JobState =>
  new JobState("p", identity, { replay: true, namespace: "", ...options });
const end = checkEvent({ ...identity, type: "job_complete" }) as End;

/** Take what is due and say that it arrived; returns the events with their attempts. */
function send(state: JobState, now: number, answer: { attempt?: number } = {}): Event[] {
  const events = state.take().map((event) => state.publication(event).event);
  for (const _ of events) state.note({ seq: 1, ...answer });
  state.settle(now, true);
  return events;
}

function begun(options: Partial<StateOptions> = {}): JobState {
  const state = stateOf(options);
  send(state, 0, { attempt: 3 });
  return state;
}

describe("what is due, and when", () => {
  test("the begin is due at once, goes alone, and asks for a number", () => {
    const state = stateOf({ attempt: 4 });
    state.finish(end);
    expect(state.due()).toBe(Number.NEGATIVE_INFINITY);
    const [event] = state.take();
    expect(state.publication(event!)).toMatchObject({ leastAttempt: 4, event: { attempt: "next", progress: 0 } });
    state.note({ seq: 1, attempt: 5 });
    state.settle(0, true);
    expect(send(state, 0)).toEqual([{ ...end, attempt: 5 }]);
    expect(state.isOver).toBe(true);
  });

  test("ten progresses a second: the latest wins", () => {
    const state = begun();
    state.say(state.checkProgress(10));
    state.say(state.checkProgress(20, "b"));
    expect(state.due()).toBe(100);
    expect(send(state, 100)).toMatchObject([{ progress: 20, message: "b", attempt: 3, nextWithin: 30 }]);
    state.say(state.checkProgress(15));
    expect(send(state, 200)).toMatchObject([{ progress: 20, message: "b" }]);
  });

  test("perSecond changes the pace, and force ignores it once", () => {
    const state = begun({ perSecond: 2 });
    state.say(state.checkProgress(10));
    expect(state.due()).toBe(500);
    state.say(state.checkProgress(11), true);
    expect(state.due()).toBe(Number.NEGATIVE_INFINITY);
  });

  test("a heartbeat after 15 seconds without news", () => {
    const state = begun();
    expect(state.due()).toBe(15_000);
    expect(send(state, 15_000)).toMatchObject([{ progress: 0, nextWithin: 30 }]);
    expect(begun({ heartbeat: null }).due()).toBe(Number.POSITIVE_INFINITY);
  });

  test("a promise of the job's own, and heartbeats that keep it", () => {
    const state = begun();
    state.say(state.checkProgress(10, undefined, undefined, 4));
    expect(send(state, 100)).toMatchObject([{ nextWithin: 4 }]);
    expect(state.due()).toBe(2_100);
    state.say(state.checkProgress(11));
    expect(send(state, 200)).toMatchObject([{ nextWithin: 30 }]);
  });

  test("without a promise at once, only heartbeats carry one", () => {
    const state = begun({ promisesAtOnce: false });
    state.say(state.checkProgress(10));
    expect(send(state, 100)[0]).not.toHaveProperty("nextWithin");
    expect(send(state, 15_100)).toMatchObject([{ nextWithin: 30 }]);
  });
});

describe("ends", () => {
  test("an end brings the progress before it, and is tried again", () => {
    const state = begun();
    state.say(state.checkProgress(90));
    state.finish(end);
    expect(state.take().map(({ type }) => type)).toEqual(["progress", "job_complete"]);
    state.settle(500, false);
    expect(state.due()).toBe(1_500);
    expect(send(state, 1_500)).toMatchObject([{ progress: 90 }, { type: "job_complete" }]);
    expect(state.isOver).toBe(true);
  });

  test("an end while a progress is on its way follows it at once", () => {
    const state = begun();
    state.say(state.checkProgress(90));
    state.take();
    state.finish(end);
    expect(state.due()).toBe(Number.POSITIVE_INFINITY);
    state.settle(500, false);
    expect(state.due()).toBe(Number.NEGATIVE_INFINITY);
  });

  test("a job that is left takes its promise back", () => {
    const state = begun();
    state.leave();
    expect(state.isOpen).toBe(false);
    const [event] = send(state, 1);
    expect(event).toMatchObject({ type: "progress", progress: 0, attempt: 3 });
    expect(event).not.toHaveProperty("nextWithin");
    expect(state.isOver).toBe(true);
  });

  test("a replaced attempt is over, with its sentences", () => {
    const state = begun();
    const part = state.ofSentence("s");
    state.say(state.checkProgress(5));
    state.take();
    state.note({ seq: null, replacedBy: 4 });
    const schedule = new Schedule();
    schedule.settle([state], 0, true);
    expect([state.isOver, part.isOver]).toEqual([true, true]);
  });
});

describe("without a new attempt", () => {
  test("a job that is resumed continues in its attempt, and has no news", () => {
    const state = stateOf({ resume: { attempt: 2 } });
    state.resume(state.checkProgress(40), true, 0);
    expect(state.due()).toBe(15_000);
    state.say(state.checkProgress(50));
    expect(send(state, 100)).toMatchObject([{ progress: 50, attempt: 2 }]);
  });

  test("with replay off nothing is numbered", () => {
    const [event] = send(stateOf({ replay: false }), 0);
    expect(event).not.toHaveProperty("attempt");
    expect(send(stateOf({ replay: false, attempt: 4 }), 0)).toMatchObject([{ attempt: 4 }]);
  });

  test("a sentence waits for the number of its job", () => {
    const schedule = new Schedule();
    const job = stateOf();
    const part = job.ofSentence("s");
    schedule.put(job);
    schedule.put(part);
    expect(schedule.popDue(0)).toEqual([job]);
    job.take();
    job.note({ seq: 1, attempt: 7 });
    schedule.settle([job], 0, true);
    expect(schedule.popDue(0)).toEqual([part]);
    expect(send(part, 0)).toMatchObject([{ attempt: 7, sentenceId: "s" }]);
  });
});

describe("what does not fit", () => {
  test.each([
    [{ heartbeat: 0 }, "heartbeat: must be seconds above 0, and at most 43200, or null for none"],
    [{ heartbeat: 1e9 }, "heartbeat: must be seconds above 0, and at most 43200, or null for none"],
    [{ perSecond: 1_001 }, "perSecond: must be a number above 0, and at most 1000"],
    [
      { attempt: -1 },
      "attempt: must be a whole number from 0 to 9007199254740991, or 'next' in a progress, got number (out of range)",
    ],
  ])("%j", (options, words) => {
    expect(() => stateOf(options)).toThrow(words);
  });

  test.each([101, Number.NaN, "5"])("the percentage %s", (value) => {
    expect(() => stateOf().checkProgress(value)).toThrow("progress: must be a number from 0 to 100");
  });
});

test.each([
  [33.333, 33.3],
  [99.97, 99.9],
  [100, 100],
])("%d percent are shown as %d", (value, shown) => {
  expect(stateOf().checkProgress(value).progress).toBe(shown);
});

test("a schedule of many gives them in order, each once", () => {
  const schedule = new Schedule();
  const states = Array.from({ length: 600 }, () => begun());
  for (const [index, state] of states.entries()) {
    state.settle((index * 7) % 600, true);
    schedule.put(state);
    state.say(state.checkProgress(1));
    schedule.put(state);
  }
  const found = Array.from({ length: 800 }, (_, now) => schedule.popDue(now)).flat();
  expect(found).toHaveLength(600);
  expect(found.map((state) => (states.indexOf(state) * 7) % 600)).toEqual(
    Array.from({ length: 600 }, (_, index) => index),
  );
});
