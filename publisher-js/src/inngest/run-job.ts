/** The job of a run, as its function sees it. */

import type { CompleteOptions, Job, ProgressOptions } from "../types.js";
import type { Rerun } from "./rerun.js";

/** A part of a run's job. Says nothing while the function repeats earlier requests. */
export interface RunPart {
  /** The highest progress so far. */
  readonly percent: number;
  /** Report that `percent` of it are done; see `Job.progress`. */
  progress(percent: number, message?: string, options?: ProgressOptions): void;
  /** End the part well. */
  complete(options?: CompleteOptions): Promise<void>;
}

/** The job of a run: `ctx.job`. Says nothing while the function repeats earlier requests. */
export interface RunJob {
  /** Undefined for a run that is not tracked. */
  readonly jobId: string | undefined;
  /** The highest progress so far, also of earlier requests. */
  readonly percent: number;
  /** Report that `percent` of it are done: 0 to 100. Takes microseconds; see `Job.progress`. */
  progress(percent: number, message?: string, options?: ProgressOptions): void;
  /** A part of the run with a progress of its own. It ends by `complete`, or with the run. */
  sentence(sentenceId: string): RunPart;
  /** Yield each item, and report after each how many are done. `message` may hold `{n}` and `{total}`. */
  track<T>(items: Iterable<T>, message?: string, options?: { total?: number | undefined }): Iterable<T>;
  /**
   * Set the result; `job_complete` is sent when the function returns. Not needed by a function that returns an object
   * with `file` or `duration`.
   */
  complete(options?: CompleteOptions): void;
  /** Fail without another try, upon which `job_failed` is sent. */
  fail(error: unknown): never;
}

/** The words of a progress that were said last. */
export interface LastWords {
  percent: number;
  message: string | undefined;
  data: ProgressOptions["data"];
}

/** One job over one request. `job` is null for a run that is not tracked. */
export class TrackedRun implements RunJob {
  readonly #job: Job | null;
  readonly #rerun: Rerun;
  readonly #parts = new Map<string, RunPart>();
  readonly #last: LastWords;
  result: CompleteOptions | undefined;

  constructor(job: Job | null, rerun: Rerun, last: LastWords) {
    this.#job = job;
    this.#rerun = rerun;
    this.#last = last;
  }

  get jobId(): string | undefined {
    return this.#job?.jobId;
  }

  get percent(): number {
    return Math.max(this.#job?.percent ?? 0, this.#last.percent);
  }

  /** The words that viewers have read by the end of this request. */
  get lastWords(): Readonly<LastWords> {
    return this.#last;
  }

  progress(percent: number, message?: string, options?: ProgressOptions): void {
    // What is repeated was read by viewers. By HTTP that is all that a cold start can know of a bar that must not fall.
    if (!this.#rerun.isSilent) this.#say(percent, message, options);
    this.#remember(percent, message, options);
  }

  #say(percent: number, message: string | undefined, options: ProgressOptions | undefined): void {
    const { message: lastMessage, data: lastData } = this.#last;
    const data = options?.data ?? lastData;
    this.#job?.progress(
      percent < this.#last.percent && percent >= 0 ? this.#last.percent : percent,
      message ?? lastMessage,
      data === undefined ? options : { ...options, data },
    );
  }

  #remember(percent: number, message: string | undefined, options: ProgressOptions | undefined): void {
    if (percent > this.#last.percent) this.#last.percent = percent;
    this.#last.message = message ?? this.#last.message;
    this.#last.data = options?.data ?? this.#last.data;
  }

  sentence(sentenceId: string): RunPart {
    let part = this.#parts.get(sentenceId);
    if (part === undefined) {
      part = new TrackedPart(this.#job, sentenceId, this.#rerun);
      this.#parts.set(sentenceId, part);
    }
    return part;
  }

  *track<T>(items: Iterable<T>, message?: string, options?: { total?: number | undefined }): Iterable<T> {
    const total =
      options?.total ?? (Array.isArray(items) ? items.length : items instanceof Set ? items.size : undefined);
    const count = (done: number) => {
      const text = (message ?? (total === undefined ? "{n} done" : undefined))
        ?.replaceAll("{n}", String(done))
        .replaceAll("{total}", String(total ?? "?"));
      this.progress(total ? Math.min(100, Math.round((1000 * done) / total) / 10) : this.percent, text);
    };
    let done = 0;
    count(done);
    for (const item of items) {
      yield item;
      count(++done);
    }
  }

  complete(options: CompleteOptions = {}): void {
    this.result = options;
  }

  fail(error: unknown): never {
    // The SDK knows it by its name, and by nothing else across its versions.
    const fatal = new Error(error instanceof Error ? error.message : String(error), { cause: error });
    fatal.name = "NonRetriableError";
    throw fatal;
  }
}

/** A sentence: the publisher hears of it first when something new is said of it. */
class TrackedPart implements RunPart {
  readonly #job: Job | null;
  readonly #id: string;
  readonly #rerun: Rerun;

  constructor(job: Job | null, id: string, rerun: Rerun) {
    this.#job = job;
    this.#id = id;
    this.#rerun = rerun;
  }

  get percent(): number {
    return this.#rerun.isSilent ? 0 : (this.#job?.sentence(this.#id).percent ?? 0);
  }

  progress(percent: number, message?: string, options?: ProgressOptions): void {
    if (!this.#rerun.isSilent) this.#job?.sentence(this.#id).progress(percent, message, options);
  }

  async complete(options?: CompleteOptions): Promise<void> {
    if (!this.#rerun.isSilent) await this.#job?.sentence(this.#id).complete(options);
  }
}
