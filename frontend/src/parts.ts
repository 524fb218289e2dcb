/** The parts of a job, and its sentences as they were at the moments that pages still hold. */

import type { ById, JobState, Part } from "./state.js";

/** Lives as long as its job. Each change costs the same, however many sentences there are. */
export class Parts {
  /** The last event of each sentence, by its id; under "" that of the job itself. */
  readonly now = new Map<string, Part>();
  /** The sentences in the order of their changes; of those with the same id, the last one counts. */
  #log: Part[] = [];
  /** The value of `freeze`, until a sentence changes. */
  #read: (() => ById<JobState>) | undefined;

  set(id: string, part: Part): void {
    this.now.set(id, part);
    if (!id) return;
    this.#read = undefined;
    this.#log.push(part);
    // Moments keep the old log: so a page that holds an old job does not hold all that came after it.
    if (this.#log.length > 2 * this.now.size) this.#log = [...this.now.values()].filter((part) => part.id);
  }

  clear(): void {
    this.now.clear();
    this.#log = [];
    this.#read = undefined;
  }

  /**
   * A function that gives the record of the sentences as they are at this moment, whenever it is called. A job may have
   * thousands, so the record is made only if a page reads it.
   */
  freeze(): () => ById<JobState> {
    const log = this.#log;
    const { length } = log;
    let record: ById<JobState>;
    this.#read ??= () => (record ??= Object.fromEntries(log.slice(0, length).map(({ id, state }) => [id, state])));
    return this.#read;
  }
}
