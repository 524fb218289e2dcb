/** The jobs of a project, within bounds, by the rules of rules.ts. Pure: no connection, page or clock. */

import { type Change, Entry } from "./job.js";
import { type ById, type Ended, endOf, type Job, type JobEvent, type Part } from "./state.js";

const MOST_PARTS = 10_000; // the gateway remembers as many of a project; of jobs that were left out, as many ids are kept

/** How many jobs there are. `running` and `ended` are those of `jobs`. */
export interface JobCounts {
  readonly running: number;
  readonly ended: number;
  /** Running jobs that are not in `jobs`, because there are more than are kept. */
  readonly leftOut: number;
}

/** Something to report: an event or, with `ended`, the end that it was. */
export interface News {
  readonly event: JobEvent;
  readonly ended?: Ended;
  /** The job that it belongs to, as it is at this moment. */
  readonly entry: Entry;
}

/** Lives as long as its project. A live event costs the same, however many jobs and sentences there are. */
export class Jobs {
  /** The most jobs that are kept. */
  readonly #limit: number;
  /** The jobs, by their ids. */
  #entries = new Map<string, Entry>();
  /** The jobs of `#entries` that have ended; the one that ended longest ago comes first. */
  #ended = new Set<Entry>();
  /** The running jobs that were left out. They stay out until a whole replay: what is known of them is not all. */
  #leftOut = new Set<string>();
  /** The number of parts of all entries. */
  #size = 0;
  /** The parts that may have ended in a gap. */
  readonly doubtful = new Set<Part>();
  /** The value of `byId`; undefined after a change, until it is asked for. */
  #byId: ById<Job> | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What pages see; the same object until something changes. */
  get byId(): ById<Job> {
    this.#byId ??= Object.fromEntries([...this.#entries].map(([id, { job }]) => [id, job]));
    return this.#byId;
  }

  get counts(): JobCounts {
    const ended = this.#ended.size;
    return { running: this.#entries.size - ended, ended, leftOut: this.#leftOut.size };
  }

  /** Whether a replay of the whole project could bring jobs that were left out. */
  get hasRoom(): boolean {
    if (!this.#leftOut.size) return false;
    return this.counts.running < this.#limit && (this.#size < MOST_PARTS || this.#ended.size > 0);
  }

  // Events

  /** Take an event as it happens. Returns what to report: nothing if the event is refused. */
  apply(event: JobEvent, now: number): News[] {
    const news = this.#update(event.jobId, (entry) => entry.apply(event, now));
    this.#forget();
    return news;
  }

  /**
   * Take a replay: last events that the gateway remembers, all together. Redis has judged them, and has deleted what an
   * attempt replaced. `isWhole`: it is everything that is remembered, not only what is newer than a cursor.
   */
  merge(events: readonly JobEvent[], now: number, isWhole: boolean): News[] {
    if (isWhole) this.#leftOut.clear();
    const byJob = new Map<string, JobEvent[]>();
    for (const event of events) {
      const its = byJob.get(event.jobId) ?? [];
      its.push(event);
      byJob.delete(event.jobId); // so that the job with the newest event comes last, as in `#ended`
      byJob.set(event.jobId, its);
    }
    const news = [...byJob].flatMap(([id, its]) => this.#update(id, (entry) => entry.merge(its, now)));
    this.#forget();
    return news.sort((a, b) => +!!a.ended - +!!b.ended || a.event.seq! - b.event.seq!); // the ends come last
  }

  /** Change a job by events, and keep the sums. Returns what to report: the events, then the ends. */
  #update(id: string, take: (entry: Entry) => Change[]): News[] {
    const entry = this.#entries.get(id) ?? new Entry(id, this.doubtful);
    const before = entry.size;
    const changes = take(entry);
    if (!changes.length) return [];
    const news = changes.map(([{ event }]): News => ({ event, entry }));
    const ends = endsOf(entry, changes);
    if (this.#leftOut.has(id)) {
      // Nothing is kept of it, and only its own end can be known.
      if (!entry.own?.end) return news;
      this.#leftOut.delete(id);
      return [...news, ...ends.filter(({ ended }) => ended === "job")];
    }
    this.#size += entry.size - before;
    this.#entries.set(id, entry);
    if (entry.status === "running") this.#ended.delete(entry);
    else this.#ended.add(entry);
    this.#byId = undefined;
    return [...news, ...ends];
  }

  // Time

  /** Mark the parts whose next event is overdue: see `Entry`. Returns whether there are any. */
  markSilent(since: number, now: number): boolean {
    const marked = [...this.#entries.values()].filter((entry) => entry.markSilent(since, now));
    if (marked.length) this.#byId = undefined;
    return marked.length > 0;
  }

  /** Mark the running parts that may have ended in a gap: all, or those whose last event the gateway does not replay. */
  doubt(isAll: boolean): void {
    for (const { running } of this.#entries.values()) {
      for (const part of running) if (isAll || part.event.seq === undefined) this.doubtful.add(part);
    }
  }

  // Bounds

  /**
   * Forget whole jobs until the bounds are kept: the one that ended longest ago. If all run, leave one out: one whose
   * promised event is overdue, or one that no page was shown yet. So a job that is shown does not make room for another
   * that runs: with more running jobs than are kept, each event would replace a job.
   */
  #forget(): void {
    while (this.#entries.size > this.#limit || this.#size > MOST_PARTS) {
      const [ended] = this.#ended;
      const entry = ended ?? this.#longestSilent();
      this.#size -= entry.size;
      this.#entries.delete(entry.id);
      this.#ended.delete(entry);
      for (const part of entry.parts) this.doubtful.delete(part);
      this.#byId = undefined;
      if (!ended && this.#leftOut.size < MOST_PARTS) this.#leftOut.add(entry.id);
    }
  }

  #longestSilent(): Entry {
    const all = [...this.#entries.values()].sort((a, b) => a.newest.heardAt - b.newest.heardAt);
    return all.find(({ isSilent }) => isSilent) ?? all.find(({ isShown }) => !isShown) ?? all[0]!;
  }
}

/** The ends to report after a change of these parts, each with the one that it replaced: those of sentences first. */
function endsOf(entry: Entry, changes: readonly Change[]): News[] {
  const news: News[] = changes
    .filter(([part, before]) => part.id && part.end && part.end !== before?.end)
    .map(([{ event }]) => ({ event, entry, ended: "sentence" }));
  const end = endOf(entry.status, entry.attempt);
  if (end && end !== entry.end) news.push({ event: (entry.own ?? entry.newest).event, entry, ended: "job" });
  entry.end = end;
  return news;
}
