/** One job: the last event of each of its parts, and what they add up to. */

import { Parts } from "./parts.js";
import { isEnd, type JobStatus, judge, percentOf, STATUS, type Verdict } from "./rules.js";
import { type Job, type JobEvent, type JobState, Part, publishedAt } from "./state.js";

/** A part that is new, and the one that it replaced. */
export type Change = readonly [part: Part, before: Part | undefined];

const UNIT = 10_000; // percents are added as whole numbers, so that a sum has no drift after a million events

/** Did `a` come after `b`? By seq; an event without one arrived last. */
const isAfter = (a: Part, b: Part): boolean => !(a.event.seq! < b.event.seq!);

const newestOf = ([first, ...others]: Part[]): Part | undefined =>
  others.reduce((newest, part) => (isAfter(part, newest!) ? part : newest), first);

/** Lives while the job is known. Every change costs the same, however many sentences the job has. */
export class Entry {
  readonly id: string;
  /** The job's number: the highest attempt that any of its events carried. */
  attempt: number | undefined;
  /** The seq of the event that began the present run; what was published before it belongs to an earlier one. */
  #begunAt = 0;
  /** A page was given it. */
  isShown = false;
  /** The end that was reported last; undefined while the job runs. */
  end: string | undefined;
  #parts = new Parts();
  /** The part with the newest event. */
  #newest: Part | undefined;
  /** What pages see; undefined after a change, until it is asked for. */
  #job: Job | undefined;

  // Sums over the sentences

  /** Their percents, in units of 1 / UNIT. */
  #units = 0;
  #running = 0;
  #failed = 0;

  // Counts of all parts

  /** Those whose event carries an attempt. */
  #numbered = 0;
  #silent = 0;

  /** The parts of all jobs that may have ended in a gap. */
  #doubtful: Set<Part>;

  constructor(id: string, doubtful: Set<Part>) {
    this.id = id;
    this.#doubtful = doubtful;
  }

  get size(): number {
    return this.#parts.now.size;
  }

  /** The last event of the job itself. */
  get own(): Part | undefined {
    return this.part();
  }

  get newest(): Part {
    this.#newest ??= newestOf(this.parts);
    return this.#newest!;
  }

  get status(): JobStatus {
    if (this.own) return STATUS[this.own.event.type];
    return this.#running ? "running" : this.#failed ? "failed" : "complete";
  }

  /** The last event of a sentence, or of the job itself. */
  part(id = ""): Part | undefined {
    return this.#parts.now.get(id);
  }

  get parts(): Part[] {
    return [...this.#parts.now.values()];
  }

  /** It runs, and an event of it is overdue. */
  get isSilent(): boolean {
    return this.#silent > 0 && this.status === "running";
  }

  /** The parts that still run; none once the job itself has ended. */
  get running(): Part[] {
    return this.status === "running" ? this.parts.filter(({ end }) => !end) : [];
  }

  /**
   * Mark the parts whose next event is overdue. Events before `since` may not have arrived, so a promise counts from
   * there at the earliest. Returns whether there are any.
   */
  markSilent(since: number, now: number): boolean {
    const overdue = this.running.filter(
      ({ isSilent, heardAt, event }) =>
        !isSilent && event.type === "progress" && Math.max(heardAt, since) + event.nextWithin! * 1000 <= now,
    ); // without nextWithin the sum is NaN, and the comparison false
    for (const part of overdue) {
      const isDoubtful = this.#doubtful.has(part);
      const [silent] = this.#put(part.event, part.heardAt, true);
      if (isDoubtful) this.#doubtful.add(silent);
    }
    return overdue.length > 0;
  }

  #put(event: JobEvent, heardAt: number, isSilent = false): Change {
    const part = new Part(event, heardAt, isSilent);
    const before = this.part(part.id);
    const newest = this.size ? this.newest : undefined;
    this.#newest = !newest || isAfter(part, newest) ? part : newest === before ? undefined : newest;
    if (before) this.#count(before, -1);
    this.#count(part, 1);
    this.#parts.set(part.id, part);
    this.#job = undefined;
    this.#raise(event.attempt);
    return [part, before];
  }

  /** Take an event as it happens. Returns nothing if the event is refused. */
  apply(event: JobEvent, now: number): Change[] {
    const verdict = this.#judge(event);
    if (verdict === "refused") return [];
    if (verdict === "begins") {
      this.#clear();
      this.#begunAt = event.seq ?? 0;
    }
    return [this.#put(event, now)];
  }

  /**
   * Take the job's events of a replay. Redis has judged them, and has deleted what an attempt replaced. So one that began
   * in the gap drops what was known before, and nothing of the replay itself.
   */
  merge(events: readonly JobEvent[], now: number): Change[] {
    if (events.some((event) => this.#judge(event) === "begins")) this.#clear();
    for (const { attempt } of events) this.#raise(attempt);
    const news = events.filter((event) => !this.#isOld(event) && !(event.attempt! < this.attempt!));
    return news.map((event) => this.#put(event, now));
  }

  #judge(event: JobEvent): Verdict {
    return this.#isOld(event) ? "refused" : judge(this.attempt, this.part(event.sentenceId)?.event, event);
  }

  /** A lower seq is old: a connection repeats events, or a replica is behind another one. With two exceptions: after a
   * failover, the clock of the new Redis may be behind. */
  #isOld(event: JobEvent): boolean {
    const before = this.part(event.sentenceId);
    const least = before?.event.seq ?? (event.attempt === undefined ? this.#begunAt : 0);
    return event.seq! <= least && !(event.attempt! > this.attempt!) && !(isEnd(event) && before && !before.end);
  }

  #raise(attempt: number | undefined): void {
    if (attempt! > (this.attempt ?? -1)) this.attempt = attempt;
  }

  /** Drop everything: it belongs to an earlier run. */
  #clear(): void {
    for (const part of this.parts) this.#count(part, -1);
    this.#parts.clear();
    this.#newest = undefined;
  }

  #count(part: Part, by: 1 | -1): void {
    if (part.event.attempt !== undefined) this.#numbered += by;
    if (part.isSilent) this.#silent += by;
    if (by < 0) this.#doubtful.delete(part);
    if (!part.id) return;
    this.#units += by * Math.round(percentOf(part.event) * UNIT);
    if (!part.end) this.#running += by;
    if (part.event.type === "job_failed") this.#failed += by;
  }

  /** What pages see; the same object until something changes. */
  get job(): Job {
    if (this.#job) return this.#job;
    this.isShown = true;
    const { seq } = this.newest.event;
    const state = this.own?.state ?? this.#sum();
    const sentencesNow = this.#parts.freeze();
    this.#job = {
      ...state,
      attempt: this.#numbered ? this.attempt : undefined,
      seq,
      publishedAt: publishedAt(seq),
      isSilent: this.isSilent,
      get sentences() {
        return sentencesNow();
      },
    };
    return this.#job;
  }

  /** The state of a job without events of its own. */
  #sum(): JobState {
    const { status } = this;
    const failures = status === "failed" ? this.parts.filter(({ event }) => event.type === "job_failed") : [];
    const failed = newestOf(failures)?.state;
    return {
      ...this.newest.state,
      status,
      percent: this.#units / (UNIT * this.size),
      result: undefined,
      error: failed?.error,
      reason: failed?.reason,
      isTerminal: status !== "running",
    };
  }
}
