/** Jobs that are removed before they run: nobody but the queue knows. */

import { CANCELLED, describe } from "../failure.js";
import type { Logger, Publisher } from "../types.js";
import { type Identity, identityOf, type NamingOptions, type QueuedJob } from "./naming.js";
import { report } from "./reports.js";

/** A `Queue` of BullMQ: as much of it as is used here. */
export interface QueueLike {
  readonly name: string;
  getJob(id: string): Promise<QueuedJob | undefined>;
  // biome-ignore lint/suspicious/noExplicitAny: BullMQ has a type of its own for the states
  getJobs(states: any, start: number, end: number): Promise<(QueuedJob | undefined)[]>;
}

/** `QueueEvents` of BullMQ: as much of them as is used here. */
export interface QueueEventsLike {
  // biome-ignore lint/suspicious/noExplicitAny: BullMQ overloads it for each event
  on(event: any, listener: (...args: any[]) => void): unknown;
}

/** The options of `trackQueue`. */
export interface QueueOptions extends NamingOptions {
  /** Where log lines go. Default: `console`. */
  logger?: Logger | undefined;
}

/** Jobs that wait: in these states they can be removed. */
const WAITING = ["waiting", "delayed", "prioritized", "paused", "waiting-children"];
const MOST_KNOWN = 10_000;

/**
 * The jobs that wait in a queue. Lives as long as its `QueueEvents`.
 *
 * BullMQ tells the id of a job that was removed, when its data is gone. So the names of jobs are noted while they wait;
 * one that is removed before they could be read is not told.
 */
export class TrackedQueue {
  readonly #publisher: Publisher;
  readonly #queue: QueueLike;
  readonly #options: QueueOptions;
  readonly #logger: Logger;
  /** By BullMQ's id, oldest first. */
  readonly #known = new Map<string, Promise<Identity | null>>();

  constructor(publisher: Publisher, queue: QueueLike, options: QueueOptions) {
    this.#publisher = publisher;
    this.#queue = queue;
    this.#options = options;
    this.#logger = options.logger ?? console;
  }

  /** Resolves when the jobs that wait by now are known. */
  async connect(events: QueueEventsLike): Promise<void> {
    events.on("added", ({ jobId }: { jobId: string }) => this.#note(jobId, this.#read(jobId)));
    for (const event of ["completed", "retries-exhausted"]) {
      events.on(event, ({ jobId }: { jobId: string }) => this.#known.delete(jobId));
    }
    events.on("removed", ({ jobId, prev }: { jobId: string; prev?: string }) => this.#onRemoved(jobId, prev));
    try {
      for (const job of await this.#queue.getJobs(WAITING, 0, MOST_KNOWN - 1)) {
        if (job?.id !== undefined) this.#note(job.id, Promise.resolve(this.#identity(job)));
      }
    } catch (error) {
      this.#logger.warn(`The jobs that wait in queue ${this.#queue.name} are not known: ${describe(error)}`);
    }
  }

  #note(id: string, identity: Promise<Identity | null>): void {
    this.#known.set(id, identity);
    if (this.#known.size > MOST_KNOWN) this.#known.delete(this.#known.keys().next().value as string);
  }

  async #read(id: string): Promise<Identity | null> {
    try {
      const job = await this.#queue.getJob(id);
      return job === undefined ? null : this.#identity(job);
    } catch {
      return null; // Redis is away; a job of which nothing is known is not told
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

  async #onRemoved(id: string, before: string | undefined): Promise<void> {
    const identity = await this.#known.get(id);
    this.#known.delete(id);
    if (identity === undefined || identity === null || before === "completed" || before === "failed") return;
    const { projectId, jobId, jobType } = identity;
    const tell = () => this.#publisher.endJob(projectId, jobId, jobType, CANCELLED, { reason: "cancelled" });
    await report(jobId, tell, this.#logger);
  }
}
