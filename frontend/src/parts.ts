/** The parts of a job, and its sentences as they were at the moments that pages still hold. */

import type { ById, JobState, Part } from "./state.js";

/**
 * The sentences at one moment. A job may have thousands, so the record for pages is made only if a page reads it. Until
 * then a moment knows what has changed since, and the moments after it know the rest.
 */
class Moment {
  /** What pages see; with it, nothing else here is needed. */
  record: ById<JobState> | undefined;
  /** What the sentences that changed before `next` were at this moment; undefined: not there. */
  changed = new Map<string, Part | undefined>();
  next: Moment | undefined;
}

/** Lives as long as its job. Each change costs the same, however many sentences there are. */
export class Parts {
  /** The last event of each sentence, by its id; under "" that of the job itself. */
  readonly now = new Map<string, Part>();
  /** The last moment that a page was given. */
  #moment: Moment | undefined;
  /** The number of moments since the chain of them was ended. */
  #length = 0;

  set(id: string, part: Part): void {
    this.#onChange(id);
    this.now.set(id, part);
  }

  delete(id: string): void {
    this.#onChange(id);
    this.now.delete(id);
  }

  #onChange(id: string): void {
    const changed = this.#moment?.changed;
    if (id && changed && !changed.has(id)) changed.set(id, this.now.get(id));
  }

  /** A function that gives the record of the sentences as they are at this moment, whenever it is called. */
  freeze(): () => ById<JobState> {
    const before = this.#moment;
    const moment = before && !before.changed.size ? before : new Moment();
    if (before && before !== moment) {
      // A page that holds an old job must not hold all that came after it: so the chain ends now and then.
      this.#length = (this.#length + 1) % (this.now.size + 1);
      if (!this.#length) this.#recordOf(before);
      if (!before.record) before.next = moment;
    }
    this.#moment = moment;
    return () => this.#recordOf(moment);
  }

  #recordOf(moment: Moment): ById<JobState> {
    if (moment.record) return moment.record;
    const changed = new Map<string, Part | undefined>();
    let later: Moment | undefined = moment;
    for (; later && !later.record; later = later.next) {
      for (const [id, part] of later.changed) if (!changed.has(id)) changed.set(id, part); // the earliest is right
    }
    let record = { ...later?.record } as Record<string, JobState>;
    for (const [id, part] of later ? changed : [...this.now, ...changed]) {
      if (!part) delete record[id];
      else if (id === "__proto__")
        record = { ...record, [id]: part.state }; // an assignment would make no property
      else if (id) record[id] = part.state;
    }
    moment.next = undefined;
    moment.record = record;
    return record;
  }
}
