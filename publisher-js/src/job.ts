/** What a job handler calls on its job. */

import type { End, JobFailed, Progress } from "./events.js";
import { checkEvent } from "./events.js";
import { describe, isRetried, LEFT_EARLY, reasonFor, retryText } from "./failure.js";
import type { EndOf, JobState } from "./job-state.js";
import type { Log } from "./log.js";
import type { Ending, Speaker } from "./sender.js";
import type { CompleteOptions, FailOptions, Job, ProgressOptions, Reason, WillRetry } from "./types.js";

/** What a job needs of its publisher. */
export interface Office {
  readonly speaker: Speaker;
  readonly log: Log;
  wait(ending: Ending): Promise<number | null>;
  /** A job has ended here. */
  ended(job: TrackedJob): void;
}

/** A job whose words go to a speaker. Made by `trackJob`; a sentence by `sentence`. */
export class TrackedJob implements Job {
  readonly #state: JobState;
  readonly #office: Office;
  readonly #willRetry: WillRetry;
  readonly #sentences = new Map<string, TrackedJob>();
  #isStopped = false;
  // Of a sentence of `sentences`: the job, its place among the sentences, and their number.
  #share: { job: TrackedJob; place: number; total: number } | undefined;

  constructor(state: JobState, office: Office, willRetry: WillRetry = false) {
    this.#state = state;
    this.#office = office;
    this.#willRetry = willRetry;
  }

  get projectId(): string {
    return this.#state.projectId;
  }

  get jobId(): string {
    return this.#state.identity.jobId;
  }

  get sentenceId(): string | undefined {
    return this.#state.identity.sentenceId;
  }

  get attempt(): number | undefined {
    return this.#state.attempt.number;
  }

  get percent(): number {
    return this.#state.last.progress;
  }

  get isEnded(): boolean {
    return !this.#state.isOpen;
  }

  // How it goes

  progress(percent: number, message?: string, options: ProgressOptions = {}): void {
    const progress = this.#state.checkProgress(percent, message, options.data, options.nextWithin);
    if (this.#share && !this.isEnded) {
      const { job, place, total } = this.#share;
      job.#say(job.#state.checkProgress(oneDecimal((100 * place + progress.progress) / total)));
    }
    this.#say(progress, options.force);
  }

  sentence(sentenceId: string): TrackedJob {
    const known = this.#sentences.get(sentenceId);
    if (known) return known;
    const part = new TrackedJob(this.#state.ofSentence(sentenceId), this.#office, this.#willRetry);
    this.#sentences.set(sentenceId, part);
    if (this.isEnded) this.#warn(`sentence '${sentenceId}'`);
    this.#office.speaker.begin(part.#state, this.#state);
    return part;
  }

  async *sentences(sentenceIds: Iterable<string>): AsyncGenerator<TrackedJob, void, undefined> {
    const jobs = Array.from(sentenceIds, (id) => this.sentence(id));
    for (const [place, job] of jobs.entries()) job.#share = { job: this, place, total: jobs.length };
    for (const [place, job] of jobs.entries()) {
      // An error leaves the sentence open. It ends with the job, which knows the error.
      yield job;
      if (!job.isEnded) await job.complete();
      this.progress(oneDecimal((100 * (place + 1)) / jobs.length));
    }
  }

  *track<T>(
    items: Iterable<T>,
    message?: string,
    options: { total?: number | undefined } = {},
  ): Generator<T, void, undefined> {
    const total = options.total ?? sizeOf(items);
    let done = 0;
    this.#count(done, total, message);
    for (const item of items) {
      yield item;
      done += 1;
      this.#count(done, total, message);
    }
  }

  #count(done: number, total: number | undefined, message: string | undefined): void {
    const text = (message ?? (total === undefined ? "{n} done" : undefined))
      ?.replaceAll("{n}", String(done))
      .replaceAll("{total}", total === undefined ? "?" : String(total));
    this.progress(total ? Math.min(100, oneDecimal((100 * done) / total)) : this.percent, text);
  }

  // How it ends

  complete({ file, duration, data }: CompleteOptions = {}): Promise<number | null> {
    const result = { file, duration };
    const own = checkEvent({ type: "job_complete", ...this.#state.identity, result, data }) as End;
    return this.#finish((state) =>
      // The result is the job's, not that of its open sentences.
      state === this.#state ? own : (checkEvent({ type: "job_complete", ...state.identity }) as End),
    );
  }

  fail(error: unknown, { reason, data }: FailOptions = {}): Promise<number | null> {
    return this.#finish(this.#failure(describe(error) || "Failed", reason ?? reasonFor(error), data));
  }

  #failure(error: string, reason: Reason | undefined, data?: unknown): EndOf {
    const failed = (state: JobState, own?: unknown): JobFailed =>
      checkEvent({ type: "job_failed", ...state.identity, error, reason, data: own }) as JobFailed;
    const own = failed(this.#state, data);
    return (state) => (state === this.#state ? own : failed(state));
  }

  async leave(message?: string): Promise<void> {
    if (this.isEnded) return;
    const progress = message === undefined ? undefined : this.#state.checkProgress(this.percent, message);
    this.#office.ended(this);
    if (progress) this.#office.speaker.say(this.#state, progress);
    await this.#office.wait(this.#office.speaker.end(this.#openStates(), undefined));
  }

  drop(): void {
    this.#office.ended(this);
    this.#office.speaker.drop(this.#openStates());
  }

  /** The work is over: complete the job, or report why it failed. */
  async settle(outcome: { error: unknown } | undefined): Promise<void> {
    if (this.isEnded) return;
    if (!outcome) await this.complete();
    else if (this.#isRetried(outcome.error)) await this.leave(retryText(describe(outcome.error)));
    else await this.fail(outcome.error);
  }

  /** The process stops: end the job, or leave it to another try. Does not wait. */
  stop(error: string, reason: Reason): void {
    if (this.isEnded) return;
    this.#isStopped = true;
    const { speaker } = this.#office;
    if (this.#isRetried(new Error(error))) {
      speaker.say(this.#state, this.#state.checkProgress(this.percent, retryText(error)));
      speaker.end(this.#openStates(), undefined);
    } else {
      speaker.end(this.#openStates(), this.#failure(error, reason));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isEnded) await this.fail(LEFT_EARLY);
  }

  #isRetried(error: unknown): boolean {
    return isRetried(this.#willRetry, error, (failure) => {
      this.#office.log.warn(`willRetry of job '${this.jobId}' failed: ${describe(failure)}`);
    });
  }

  /** The states of the job's open sentences, and its own; none if it has ended. */
  #openStates(): JobState[] {
    if (this.isEnded) return [];
    return [...this.#sentences.values(), this].map((job) => job.#state).filter((state) => state.isOpen);
  }

  #say(progress: Progress, isForced = false): void {
    if (!this.#office.speaker.say(this.#state, progress, isForced)) this.#warn(`progress ${progress.progress}`);
  }

  #finish(endOf: EndOf): Promise<number | null> {
    this.#office.ended(this);
    if (this.isEnded) {
      this.#warn(endOf(this.#state).type);
      return Promise.resolve(null);
    }
    return this.#office.wait(this.#office.speaker.end(this.#openStates(), endOf));
  }

  #warn(said: string): void {
    // The log said so, or the process ends; and the worker cannot help it.
    if (this.#state.attempt.replacedBy !== undefined || this.#isStopped) return;
    this.#office.log.warn(`job '${this.jobId}' of project '${this.projectId}' has ended; not sent: ${said}`);
  }
}

const oneDecimal = (value: number): number => Math.round(value * 10) / 10;

function sizeOf(items: Iterable<unknown>): number | undefined {
  const { length, size } = items as { length?: unknown; size?: unknown };
  return typeof length === "number" ? length : typeof size === "number" ? size : undefined;
}
