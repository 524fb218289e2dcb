/** The worker. It runs in the server of this app; `node` may run this file in a process of its own just as well. */

import { setTimeout as sleep } from "node:timers/promises";
import { jobOf, trackWorker } from "@progress-gateway/publisher/bullmq";
import { Worker } from "bullmq";
import { connection, type Order, publisher } from "./queue";

const STEPS = ["writing the script", "recording the voices", "rendering", "mixing"];

export function startWorker(): void {
  const worker = new Worker<Order>(
    "videos",
    async (job) => {
      for (const [done, step] of STEPS.entries()) {
        jobOf()?.progress((100 * done) / STEPS.length, step);
        await sleep(Number(process.env.STEP_MS ?? 1_500));
      }
      return { file: `${job.data.title}.mp4` };
    },
    { connection, concurrency: 4 },
  );
  trackWorker(publisher(), worker); // each job that has a `projectId` is shown from here on
}
