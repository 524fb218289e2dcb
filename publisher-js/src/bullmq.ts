/**
 * BullMQ: one line tracks the jobs of a worker.
 *
 *     const worker = new Worker("videos", async (job) => {
 *       await job.updateProgress(40);                        // or { percent: 40, message: "voice 2 of 5" }
 *       jobOf().progress(60, "mixing");                      // the same, throttled and without a round trip to BullMQ
 *       return { file: "a.mp4" };
 *     }, { connection });
 *     trackWorker(publisher, worker);
 *
 * A job whose data has a `projectId` is tracked: `videos:7` is job 7 of the queue "videos", and the job's name is its
 * type. Each run of it is the next attempt. A job that stalls (its worker was killed) has no end until BullMQ runs it
 * again, or gives it up: then it is `lost`.
 */

import { type QueueEventsLike, type QueueLike, type QueueOptions, TrackedQueue } from "./bullmq/queue.js";
import { jobs, TrackedWorker, type WorkerLike, type WorkerOptions } from "./bullmq/worker.js";
import type { Job, Publisher } from "./types.js";

export type { NamingOptions, QueuedJob } from "./bullmq/naming.js";
export type { QueueEventsLike, QueueLike, QueueOptions } from "./bullmq/queue.js";
export type { WorkerLike, WorkerOptions } from "./bullmq/worker.js";

/**
 * Publish the jobs of a worker: begin, progress, retries and end. Call it once, right after the worker is made; its
 * processor may be a function or a file.
 */
export function trackWorker(publisher: Publisher, worker: WorkerLike, options: WorkerOptions = {}): void {
  new TrackedWorker(publisher, options).connect(worker);
}

/**
 * Publish that jobs were removed while they waited in a queue, by whatever process: they failed, `cancelled`. Resolves
 * when the jobs that wait by now are known. `events` are the queue's, `new QueueEvents(queue.name, { connection })`.
 */
export function trackQueue(
  publisher: Publisher,
  queue: QueueLike,
  events: QueueEventsLike,
  options: QueueOptions = {},
): Promise<void> {
  return new TrackedQueue(publisher, queue, options).connect(events);
}

/** The tracked job whose processor this code runs in; undefined in a job that is not tracked. */
export function jobOf(): Job | undefined {
  return jobs.getStore() ?? undefined;
}
