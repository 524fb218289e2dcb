/** Sends what tracked jobs say: in the background, all jobs that are due in one batch. */

import { AsyncResource } from "node:async_hooks";
import { now } from "./circuit.js";
import type { Event, Progress } from "./events.js";
import type { EndOf, JobState } from "./job-state.js";
import type { Log } from "./log.js";
import type { Publication, Sent } from "./publication.js";
import { Schedule } from "./schedule.js";
import type { Transport } from "./transport.js";

const WAIT_MS = 5_500; // that a caller waits for an end: a try takes 5 s at most

interface Taken {
  readonly state: JobState;
  readonly events: readonly Event[];
}

/** The ends of a job and of its open sentences, on their way. Lives until each was tried once. */
export class Ending {
  /** The seq of the job's end, once it arrived. */
  seq: number | null = null;
  readonly done: Promise<void>;
  readonly #untried: Set<JobState>;
  readonly #last: JobState | undefined;
  #resolve: () => void = () => {};

  constructor(states: readonly JobState[]) {
    this.#untried = new Set(states.filter((state) => !state.isOver));
    this.#last = states.at(-1);
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (this.#untried.size === 0) this.#resolve();
  }

  /** The end of `state` was tried; its `seq`, if it arrived. */
  note(state: JobState, seq: number | null): void {
    this.#untried.delete(state);
    if (state === this.#last) this.seq = seq;
    if (this.#untried.size === 0) this.#resolve();
  }
}

/** What was unsent when somebody asked to send it. Lives until all of it arrived or was tried. */
class Flush {
  readonly done: Promise<void>;
  readonly #pending: Set<JobState>;
  #resolve: () => void = () => {};

  constructor(states: readonly JobState[]) {
    this.#pending = new Set(states);
    // A sentence has no time of its own while it waits for the number of its job.
    for (const { attempt } of states) for (const state of attempt.waiting) this.#pending.add(state);
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#seeIfDone();
  }

  /** These were tried; those of them that are `unsent` did not arrive. */
  note(states: readonly JobState[], unsent: ReadonlySet<JobState>): void {
    for (const state of states) {
      if (!unsent.has(state)) continue;
      this.#pending.delete(state);
      for (const one of state.attempt.waiting) this.#pending.delete(one);
    }
    this.#seeIfDone();
  }

  #seeIfDone(): void {
    for (const state of this.#pending) if (!state.hasUnsent) this.#pending.delete(state);
    if (this.#pending.size === 0) this.#resolve();
  }
}

/** What a job hands over. None of these waits. */
export interface Speaker {
  begin(state: JobState, within?: JobState): void;
  /** Take a progress; false if the job has ended. */
  say(state: JobState, progress: Progress, isForced?: boolean): boolean;
  /** End jobs, or leave them (without `endOf`), after what they said before. */
  end(states: readonly JobState[], endOf: EndOf | undefined): Ending;
  /** Send nothing more of jobs. */
  drop(states: readonly JobState[]): void;
}

/**
 * One per publisher; lives as long as it. All that it holds changes in one step, without `await`.
 *
 * One batch of a lane is on its way at a time, so that no event overtakes another one of its job; jobs of that lane that
 * become due meanwhile are held, and their latest goes next.
 */
export class Sender implements Speaker {
  readonly #transport: Transport;
  readonly #log: Log;
  readonly #schedule = new Schedule();
  readonly #held = new Map<string, Set<JobState>>(); // by lane with a batch on its way
  readonly #onTheirWay = new Set<JobState>();
  readonly #endings = new Map<JobState, Ending>();
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;
  #isWoken = false; // a step of this turn of the loop will look
  readonly #flushes = new Set<Flush>();

  // What is sent is no work of the job that happens to be due first: its context (`currentJob`) is not kept for it.
  readonly #look: () => void;

  constructor(transport: Transport, log: Log) {
    this.#transport = transport;
    this.#log = log;
    this.#look = AsyncResource.bind(() => this.#run());
  }

  begin(state: JobState, within?: JobState): void {
    if (within && !within.isOpen) state.forget();
    this.#put(state);
  }

  say(state: JobState, progress: Progress, isForced = false): boolean {
    if (!state.isOpen) return false;
    state.say(progress, isForced);
    this.#put(state);
    return true;
  }

  end(states: readonly JobState[], endOf: EndOf | undefined): Ending {
    const ends = states.map((state) => endOf?.(state)); // it may throw: before anything changes
    for (const [index, state] of states.entries()) {
      const end = ends[index];
      if (end) state.finish(end);
      else state.leave();
      this.#put(state);
    }
    const ending = new Ending(states);
    for (const state of states) if (!state.isOver) this.#endings.set(state, ending);
    return ending;
  }

  drop(states: readonly JobState[]): void {
    for (const state of states) {
      state.forget();
      this.#schedule.put(state);
      this.#endings.get(state)?.note(state, null);
    }
  }

  /** Resolve once ends were tried, with the job's seq. What did not arrive is tried again, but nobody waits for that. */
  async wait(ending: Ending): Promise<number | null> {
    await timeLimited(ending.done, WAIT_MS);
    return ending.seq;
  }

  /**
   * Send what is unsent, for at most so long. Resolves once all of it arrived, or was tried: a try takes 5 seconds where
   * nobody answers, and no time where that is known already.
   */
  async flush(ms: number): Promise<void> {
    const states = [
      ...this.#schedule.states(),
      ...[...this.#held.values()].flatMap((held) => [...held]),
      ...this.#onTheirWay,
    ];
    const flush = new Flush(states.filter((state) => state.hasUnsent));
    this.#flushes.add(flush);
    for (const state of states) {
      state.hurry();
      this.#put(state);
    }
    await timeLimited(flush.done, ms);
    this.#flushes.delete(flush);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #put(state: JobState): void {
    this.#schedule.put(state);
    this.#wake();
  }

  /** Look for what is due: at the end of this step if it is due now, so that what is said in one step goes together. */
  #wake(): void {
    const due = this.#schedule.nextDue();
    if (due <= now()) {
      if (this.#isWoken) return;
      this.#isWoken = true;
      queueMicrotask(this.#look);
    } else if (due < this.#wakesAt) {
      this.#sleepUntil(due);
    }
  }

  #sleepUntil(due: number): void {
    clearTimeout(this.#timer);
    this.#wakesAt = due;
    if (due === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(this.#look, Math.min(Math.max(0, due - now()), 2 ** 31 - 1));
    this.#timer.unref(); // heartbeats are no reason for a process to go on; what is on its way is one
  }

  #run(): void {
    this.#isWoken = false;
    for (const [lane, states] of this.#takeDue()) void this.#send(lane, states);
    this.#sleepUntil(this.#schedule.nextDue());
  }

  /** The jobs that are due, by lane. Those of a lane with a batch on its way wait for it. */
  #takeDue(): Map<string, Taken[]> {
    const lanes = new Map<string, Taken[]>();
    for (const state of this.#schedule.popDue(now())) {
      const lane = this.#transport.laneOf(state.projectId);
      const held = this.#held.get(lane);
      if (held) {
        held.add(state);
        continue;
      }
      const taken = { state, events: state.take() };
      this.#onTheirWay.add(state);
      const those = lanes.get(lane);
      if (those) those.push(taken);
      else lanes.set(lane, [taken]);
    }
    for (const lane of lanes.keys()) this.#held.set(lane, new Set());
    return lanes;
  }

  async #send(lane: string, batch: readonly Taken[]): Promise<void> {
    const unsent = new Set(batch.map(({ state }) => state));
    const outcomes: [JobState, Sent][] = [];
    try {
      const here: [JobState, Publication][] = batch.flatMap(({ state, events }) =>
        this.#transport.isAway(state.projectId)
          ? []
          : events.map((event): [JobState, Publication] => [state, state.publication(event)]),
      );
      if (here.length > 0) {
        const { sent, givenUp } = await this.#transport.send(here.map(([, publication]) => publication));
        for (const [state] of here) unsent.delete(state);
        for (const [index, [state, publication]] of here.entries()) {
          if (givenUp.has(publication)) unsent.add(state);
          outcomes.push([state, sent[index] as Sent]);
        }
      }
    } catch (error) {
      this.#complain(error);
    }
    try {
      this.#settle(batch, unsent, outcomes);
    } catch (error) {
      this.#complain(error);
    }
    this.#release(lane);
  }

  /** A bug, here or in a client: no reason to break a job. */
  #complain(error: unknown): void {
    this.#log.complain("bug", `Tracked jobs could not be sent; trying again: ${String(error)}`);
  }

  #release(lane: string): void {
    const held = this.#held.get(lane) ?? [];
    this.#held.delete(lane);
    for (const state of held) this.#schedule.put(state);
    this.#wake();
  }

  /** Take in what became of a batch. */
  #settle(batch: readonly Taken[], unsent: ReadonlySet<JobState>, outcomes: readonly [JobState, Sent][]): void {
    const states = batch.map(({ state }) => state);
    for (const state of states) this.#onTheirWay.delete(state);
    for (const [state, sent] of outcomes) state.note(sent);
    const tried = new Set(states.filter((state) => state.isSendingEnd));
    const time = now();
    for (const isSent of [true, false]) {
      this.#schedule.settle(
        states.filter((state) => unsent.has(state) !== isSent),
        time,
        isSent,
      );
    }
    for (const state of states) {
      const { attempt, projectId, identity } = state;
      if (attempt.replacedBy !== undefined && !attempt.isTold) {
        attempt.isTold = true;
        this.#log.begunElsewhere(projectId, identity.jobId, attempt.replacedBy);
        for (const one of attempt.states) tried.add(one);
      } else if (!attempt.isKnown) {
        // Its begin did not arrive, so nothing of it can be sent.
        for (const one of [state, ...attempt.waiting]) tried.add(one);
      }
      if (state.isOver) tried.add(state);
    }
    const seqs = new Map(outcomes.map(([state, { seq }]) => [state, seq]));
    for (const state of tried) {
      this.#endings.get(state)?.note(state, state.isOver ? (seqs.get(state) ?? null) : null);
      this.#endings.delete(state);
    }
    for (const flush of this.#flushes) flush.note(states, unsent);
  }
}

/** Wait, but not longer. Meanwhile the process stays alive. */
export async function timeLimited(done: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([done, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}

/** For `disabled`: jobs behave, and nothing is sent. Each end is as if it had been refused. */
export const NOWHERE: Speaker = {
  begin(state, within) {
    if (within && !within.isOpen) state.forget();
  },
  say(state, progress) {
    if (!state.isOpen) return false;
    state.say(progress);
    return true;
  },
  end(states, endOf) {
    for (const state of states) endOf?.(state);
    this.drop(states);
    return new Ending(states);
  },
  drop(states) {
    for (const state of states) state.forget();
  },
};
