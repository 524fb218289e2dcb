/** A worker that ends in the way that its argument names. Says `ready` once its job is sent. */

import { Redis } from "ioredis";
import { createPublisher } from "../../dist/index.js";

const [port, project, way] = process.argv.slice(2);
const redis = new Redis({ port: Number(port), host: "127.0.0.1" });
const publisher = createPublisher({ redis, ...(way === "opted-out" ? { endsAtSignals: false } : {}) });
const forever = new Promise(() => {});

async function begin(options = {}) {
  const job = publisher.trackJob(project, "j", "audio", options);
  job.sentence("s").progress(10);
  job.progress(40, "voice 2 of 5");
  await publisher.flush();
  process.stdout.write("ready\n");
  return job;
}

const WAYS = {
  waits: () => begin(),
  "opted-out": () => begin(),
  retried: () => begin({ willRetry: true }),
  left: () => begin({ endsAtExit: false }),
  "own-handler": async () => {
    await begin();
    process.on("SIGTERM", () => process.exit(7)); // it came after ours, and still decides
  },
  uncaught: async () => {
    await begin();
    setTimeout(() => {
      throw new RangeError("boom");
    });
  },
  unhandled: () =>
    publisher.trackJob(project, "j", "audio", async (job) => {
      job.progress(40);
      await publisher.flush();
      void (async () => {
        await publisher.flush();
        throw new RangeError("nobody waits for this");
      })();
      await forever;
    }),
  idle: async () => {
    const job = publisher.trackJob(project, "j", "audio");
    await publisher.flush();
    job.progress(60); // is due later, by a timer that keeps no process alive
    redis.unref?.();
    redis.stream?.unref();
  },
  closes: async () => {
    await begin();
    await publisher.close();
    await redis.quit();
  },
};

await WAYS[way]();
