/** What an editor allows. Checked by `npm run types`; nothing runs. */

import type { Job, PublishedEvent, Publisher } from "../src/index.js";

declare const publisher: Publisher;

const progress: PublishedEvent = { type: "progress", jobId: "j", jobType: "my.own", progress: 4, message: undefined };
const begin: PublishedEvent = { type: "progress", jobId: "j", jobType: "audio", attempt: "next", progress: 0 };
const complete: PublishedEvent = { type: "job_complete", jobId: "j", jobType: "audio", result: { file: undefined } };
const failed: PublishedEvent = { type: "job_failed", jobId: "j", jobType: "audio", error: "e", reason: "lost" };
// @ts-expect-error: only a progress begins an attempt
const bad: PublishedEvent = { type: "job_failed", jobId: "j", jobType: "audio", error: "e", attempt: "next" };
// @ts-expect-error: a progress needs its percentage
const none: PublishedEvent = { type: "progress", jobId: "j", jobType: "audio" };
export const events = [progress, begin, complete, failed, bad, none];

export async function uses(): Promise<number> {
  await using job: Job = publisher.trackJob("p", "j", "audio", { heartbeat: null });
  job.progress(4, "text", { data: { voice: 2 } });
  await publisher.trackJob("p", "j", "audio", async (tracked) => tracked.complete({ file: "a.mp3" }));
  const length: number = await publisher.trackJob("p", "j", "audio", { willRetry: TypeError }, () => 4);
  return length;
}
