/** The jobs of a worker, from the worker's own events. */

import { AsyncLocalStorage } from "node:async_hooks";
import type { Worker } from "bullmq";
import { CANCELLED, describe, retryText, WORKER_ENDED } from "../failure.js";
import type { Job, Logger, Publisher } from "../types.js";
import { type Identity, identityOf, type NamingOptions, type QueuedJob } from "./naming.js";
import { report } from "./reports.js";
import { wordsOf } from "./words.js";

const STALLED_TOO_OFTEN = "job stalled more than allowable limit"; // BullMQ's own words
// A job that is put back by its own processor. Neither `completed` nor `failed` tells of it.
const PUT_BACK = new Set(["DelayedError", "WaitingError", "WaitingChildrenError", "RateLimitError"]);

/** A `Worker` of BullMQ: as much of it as is used here. */
export interface WorkerLike {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: BullMQ overloads it for each event
  on(event: any, listener: (...args: any[]) => void): unknown;
}

/** The options of `trackWorker`. */
export interface WorkerOptions extends NamingOptions {
  /** Seconds without news after which the last progress is sent again; null for never. Default: 15. */
  heartbeat?: number | null | undefined;
  /** Where log lines go. Default: `console`. */
  logger?: Logger | undefined;
}

type Processor = (job: QueuedJob, token?: string, signal?: AbortSignal) => Promise<unknown>;

/** A job that this worker runs. */
interface Running {
  readonly tracked: Job;
  readonly signal: AbortSignal | undefined;
  isWarned: boolean;
}

export const jobs = new AsyncLocalStorage<Job | null>();

/** Lives as long as the worker. */
export class TrackedWorker {
  readonly #publisher: Publisher;
  readonly #options: WorkerOptions;
  readonly #logger: Logger;
  readonly #running = new WeakMap<QueuedJob, Running>();

  constructor(publisher: Publisher, options: WorkerOptions) {
    this.#publisher = publisher;
    this.#options = options;
    this.#logger = options.logger ?? console;
  }

  connect(worker: WorkerLike): void {
    this.#wrap(worker as WorkerLike & { processFn?: Processor });
    worker.on("progress", (job: QueuedJob, said: unknown) => this.#onProgress(job, said));
    worker.on("completed", (job: QueuedJob, result: unknown) => this.#onCompleted(job, result));
    worker.on("failed", (job: QueuedJob | undefined, error: Error) => job && this.#onFailed(job, error));
    worker.on("stalled", (id: string) => this.#onStalled(worker, id));
  }

  /** Begin a job before its processor runs. The event `active` would do, but for jobs that put themselves back. */
  #wrap(worker: { processFn?: Processor }): void {
    const process = worker.processFn;
    if (process === undefined) throw new TypeError("trackWorker needs a Worker with a processor");
    worker.processFn = async (job, token, signal) => {
      const tracked = this.#begin(job, signal);
      if (tracked === null) return await jobs.run(null, () => process.call(worker, job, token, signal));
      try {
        return await jobs.run(tracked, () => process.call(worker, job, token, signal));
      } catch (error) {
        if (error instanceof Error && PUT_BACK.has(error.name)) {
          this.#running.delete(job);
          await tracked.leave();
        }
        throw error;
      }
    };
  }

  #begin(job: QueuedJob, signal: AbortSignal | undefined): Job | null {
    const identity = this.#identity(job);
    if (identity === null) return null;
    const { projectId, jobId, jobType } = identity;
    try {
      const { heartbeat } = this.#options;
      // If the process ends with it, BullMQ runs it again; one that is closed waits for its jobs.
      const tracked = this.#publisher.trackJob(projectId, jobId, jobType, { heartbeat, endsAtExit: false });
      this.#running.set(job, { tracked, signal, isWarned: false });
      return tracked;
    } catch (error) {
      this.#logger.warn(`Job ${job.queueName}:${job.id} is not tracked: ${describe(error)}`);
      return null;
    }
  }

  #identity(job: QueuedJob): Identity | null {
    try {
      return identityOf(this.#options, job);
    } catch (error) {
      this.#logger.warn(`Job ${job.queueName}:${job.id} is not tracked: ${describe(error)}`);
      return null;
    }
  }

  #onProgress(job: QueuedJob, said: unknown): void {
    const running = this.#running.get(job);
    const words = wordsOf(said);
    if (running === undefined || words === null) return;
    const { percent = running.tracked.percent, message, data } = words;
    try {
      running.tracked.progress(percent, message, data === undefined ? undefined : { data });
    } catch (error) {
      if (!running.isWarned)
        this.#logger.warn(`A progress of job ${running.tracked.jobId} is not shown: ${describe(error)}`);
      running.isWarned = true;
    }
  }

  async #onCompleted(job: QueuedJob, result: unknown): Promise<void> {
    const tracked = this.#take(job)?.tracked;
    if (tracked === undefined || tracked.isEnded) return;
    const { file, duration } = (typeof result === "object" && result !== null ? result : {}) as Record<string, unknown>;
    try {
      await tracked.complete({
        file: typeof file === "string" ? file : undefined,
        duration: typeof duration === "number" ? duration : undefined,
      });
    } catch (error) {
      this.#logger.warn(`The result of job ${tracked.jobId} does not fit and is left out: ${describe(error)}`);
      await tracked.complete();
    }
  }

  async #onFailed(job: QueuedJob, error: Error): Promise<void> {
    const running = this.#take(job);
    const isFinal = job.finishedOn !== undefined;
    if (running === undefined) {
      if (isFinal && error.message === STALLED_TOO_OFTEN) await this.#lost(job);
      return;
    }
    const { tracked, signal } = running;
    if (tracked.isEnded) return;
    const isCancelled = signal?.aborted === true;
    const text = isCancelled
      ? CANCELLED
      : describe(error.name === "UnrecoverableError" ? error.message || error : error);
    if (!isFinal) await tracked.leave(retryText(text));
    else
      await tracked.fail(isCancelled || error.name === "UnrecoverableError" ? text : error, {
        reason: isCancelled ? "cancelled" : undefined,
      });
  }

  /** Another worker died with a job at work. It waits now, and is run again or given up by whoever takes it next. */
  async #onStalled(worker: WorkerLike, id: string): Promise<void> {
    try {
      const { Job: QueueJob } = await import("bullmq");
      const job = await QueueJob.fromId(worker as Worker, id);
      const identity = job && this.#identity(job);
      if (!identity) return;
      const { projectId, jobId, jobType } = identity;
      const known = await this.#publisher.lastEvent(projectId, jobId);
      // If it still waits now, what was read is of the dead worker's attempt. Of the next one this would not be true.
      if (known?.type !== "progress" || (await job.getState()) !== "waiting") return;
      const { nextWithin: _, seq: __, ...event } = known;
      const message = retryText(WORKER_ENDED);
      await this.#publisher.broadcastToProject(projectId, { ...event, jobType, message });
    } catch (error) {
      // By HTTP the last event cannot be read. Viewers then see a job that is silent until it begins again.
      if ((error as Error).name !== "PublishError")
        this.#logger.warn(`That job ${id} stalled was not told: ${describe(error)}`);
    }
  }

  /** The workers that had begun it died, so often that BullMQ gives it up. */
  async #lost(job: QueuedJob): Promise<void> {
    const identity = this.#identity(job);
    if (identity === null) return;
    const { projectId, jobId, jobType } = identity;
    const tell = () => this.#publisher.endJob(projectId, jobId, jobType, WORKER_ENDED, { reason: "lost" });
    await report(jobId, tell, this.#logger);
  }

  #take(job: QueuedJob): Running | undefined {
    const running = this.#running.get(job);
    this.#running.delete(job);
    return running;
  }
}
