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

/** A plain assignment to `__proto__` would make no property. */
function put(record: Record<string, JobState>, id: string, state: JobState): void {
  if (id !== "__proto__") record[id] = state;
  else Object.defineProperty(record, id, { value: state, enumerable: true, configurable: true, writable: true });
}

/** Lives as long as its job. Each change costs the same, however many sentences there are. */
export class Parts {
  /** The last event of each sentence, by its id; under "" that of the job itself. */
  readonly now = new Map<string, Part>();
  /** The last moment that a page was given. */
  #moment: Moment | undefined;
  /** Something changed since `#moment`. */
  #hasChanged = true;
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

  /** A function that gives the record of the sentences as they are at this moment, whenever it is called. */
  freeze(): () => ById<JobState> {
    if (this.#hasChanged) this.#begin();
    const moment = this.#moment!;
    return () => this.#recordOf(moment);
  }

  #begin(): void {
    const before = this.#moment;
    this.#moment = new Moment();
    this.#hasChanged = false;
    if (!before) return;
    // A page that holds an old job must not hold all that came after it: so the chain ends now and then.
    this.#length = (this.#length + 1) % (this.now.size + 1);
    if (!this.#length) this.#recordOf(before);
    if (!before.record) before.next = this.#moment;
  }

  #onChange(id: string): void {
    if (!id) return;
    this.#hasChanged = true;
    const moment = this.#moment;
    if (moment && !moment.record && !moment.changed.has(id)) moment.changed.set(id, this.now.get(id));
  }

  #recordOf(moment: Moment): ById<JobState> {
    if (moment.record) return moment.record;
    const changed = new Map<string, Part | undefined>();
    let later: Moment | undefined = moment;
    for (; later && !later.record; later = later.next) {
      for (const [id, part] of later.changed) if (!changed.has(id)) changed.set(id, part); // the earliest is right
    }
    const record: Record<string, JobState> = { ...(later?.record as Record<string, JobState>) };
    if (!later) for (const [id, part] of this.now) if (id) put(record, id, part.state);
    for (const [id, part] of changed) {
      if (part) put(record, id, part.state);
      else delete record[id];
    }
    moment.record = record;
    moment.changed.clear();
    moment.next = undefined;
    return moment.record;
  }
}
