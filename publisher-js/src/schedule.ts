/** The jobs of a sender, by the time when they are due. No I/O. */

import type { Attempt, JobState } from "./job-state.js";
import { MAX_JOBS } from "./publication.js";

const NEVER = Number.POSITIVE_INFINITY;
const LEAST_SWEEP = 256;

interface Entry {
  readonly due: number;
  readonly number: number; // of two that are due at once, the older goes first
  readonly state: JobState;
}

/** A heap. An entry counts as long as its job has that time, so each change of a job leaves one that does not. */
export class Schedule {
  #heap: Entry[] = [];
  #number = 0;
  #sweepAt = LEAST_SWEEP; // entries; then those that do not count are removed, with their jobs
  // Jobs whose last words did not arrive, oldest first. Too many are forgotten from the front.
  readonly #late = new Set<JobState>();

  /** Remember when a job is due. Call it after each change. */
  put(state: JobState): void {
    const { beginner, waiting } = state.attempt;
    if (state.isWaiting && beginner) {
      waiting.add(state);
      this.put(beginner); // it may be due earlier now
    }
    const due = state.due();
    if (due === state.scheduled) return;
    state.scheduled = due;
    if (due === NEVER) return;
    this.#push({ due, number: this.#number++, state });
    if (this.#heap.length >= this.#sweepAt) this.#sweep();
  }

  /** Report whether what was taken from these jobs arrived. */
  settle(states: Iterable<JobState>, now: number, isSent: boolean): void {
    for (const state of states) {
      state.settle(now, isSent);
      if (state.isOver) this.#late.delete(state);
      else if (!state.isOpen && !isSent) this.#late.add(state);
      this.put(state);
      if (state === state.attempt.beginner || state.attempt.replacedBy !== undefined) this.#follow(state.attempt);
    }
    for (const oldest of this.#late) {
      if (this.#late.size <= MAX_JOBS) break;
      this.#late.delete(oldest);
      oldest.forget();
      this.put(oldest);
    }
  }

  /** The number of an attempt may be known now: its sentences are due. Or it was replaced, and they are over. */
  #follow(attempt: Attempt): void {
    if (attempt.isKnown) {
      const waiting = [...attempt.waiting];
      attempt.waiting.clear();
      for (const state of waiting) this.put(state);
    }
    if (attempt.replacedBy === undefined) return;
    for (const state of attempt.states) {
      state.forget();
      this.#late.delete(state);
      this.put(state);
    }
  }

  /** The earliest time at which a job is due; infinity if none is. */
  nextDue(): number {
    for (;;) {
      const first = this.#heap[0];
      if (!first) return NEVER;
      if (counts(first)) return first.due;
      this.#pop();
    }
  }

  /** The jobs that are due, each once; of those that end, sentences before jobs. */
  popDue(now: number): JobState[] {
    const states: JobState[] = [];
    while (this.nextDue() <= now) {
      const { state } = this.#pop() as Entry;
      state.scheduled = NEVER;
      if (state.due() <= now) states.push(state);
      else this.put(state);
    }
    const last = (state: JobState): number => Number(state.isEnding && state.identity.sentenceId === undefined);
    return states.sort((a, b) => last(a) - last(b));
  }

  /** All that have a time. */
  states(): JobState[] {
    return this.#heap.filter(counts).map(({ state }) => state);
  }

  #sweep(): void {
    this.#heap = this.#heap.filter(counts).sort((a, b) => compare(a, b)); // a sorted list is a heap
    this.#sweepAt = Math.max(LEAST_SWEEP, 2 * this.#heap.length);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let place = heap.push(entry) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (compare(heap[parent] as Entry, entry) <= 0) break;
      heap[place] = heap[parent] as Entry;
      place = parent;
    }
    heap[place] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const entry = heap.pop();
    if (!entry || heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && compare(heap[child + 1] as Entry, heap[child] as Entry) < 0) child += 1;
      if (compare(heap[child] as Entry, entry) >= 0) break;
      heap[place] = heap[child] as Entry;
      place = child;
    }
    heap[place] = entry;
    return first;
  }
}

const counts = ({ due, state }: Entry): boolean => state.scheduled === due;
const compare = (a: Entry, b: Entry): number => (a.due < b.due ? -1 : a.due > b.due ? 1 : a.number - b.number);
