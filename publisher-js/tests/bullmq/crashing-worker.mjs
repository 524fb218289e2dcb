/** A worker in a process of its own, which a test kills: `node crashing-worker.mjs QUEUE PORT`. Needs the package built. */

import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { jobOf, trackWorker } from "../../dist/bullmq.js";
import { createPublisher } from "../../dist/index.js";

const [, , queue, port] = process.argv;
const connection = { host: "127.0.0.1", port: Number(port) };
const publisher = createPublisher({ redis: new Redis(connection) });
const hang = () => new Promise(() => {});
const worker = new Worker(
  queue,
  async () => {
    jobOf().progress(50, "half");
    await hang();
  },
  // Its check for stalled jobs keeps other workers from theirs for so long.
  { connection, lockDuration: 1_000, stalledInterval: 300 },
);
trackWorker(publisher, worker, { heartbeat: 2 });
