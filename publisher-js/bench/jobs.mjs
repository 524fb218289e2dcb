/**
 * A thousand tracked jobs at once in one process: what they send, and how late the event loop is.
 *
 *     npm run build && REDIS_URL=redis://127.0.0.1:6379/0 npm run bench
 *     CLIENT=node-redis ...; GATEWAY_URL=http://127.0.0.1:3001 GATEWAY_KEY=... CLIENT=http ...; JOBS=1000 SECONDS=10
 */

import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { createPublisher } from "../dist/index.js";

const { CLIENT = "ioredis", JOBS = "1000", SECONDS = "10", REDIS_URL = "redis://127.0.0.1:6379/0" } = process.env;
const jobs = Number(JOBS);
const seconds = Number(SECONDS);
const SAYS_EACH_MS = 50; // twice what is sent at most

async function made() {
  if (CLIENT === "http") return { sent: { count: 0 }, options: {}, end() {} };
  if (CLIENT === "ioredis") {
    const { Redis } = await import("ioredis");
    const redis = new Redis(REDIS_URL);
    return { options: { redis }, end: () => redis.quit() };
  }
  const { createClient } = await import("redis");
  const redis = await createClient({ url: REDIS_URL }).connect();
  return { options: { redis }, end: () => redis.close() };
}

/** Count what leaves: calls of the client, or requests and the events in them. */
function counting(options) {
  const counts = { requests: 0, events: 0 };
  if (options.redis) {
    const name = CLIENT === "ioredis" ? "call" : "sendCommand";
    const call = options.redis[name].bind(options.redis);
    options.redis[name] = (...given) => {
      counts.requests += 1;
      counts.events += 1;
      return call(...given);
    };
    return [options, counts];
  }
  const counted = (url, init) => {
    counts.requests += 1;
    if (init.body) counts.events += JSON.parse(init.body).length;
    return fetch(url, init);
  };
  return [{ fetch: counted }, counts];
}

const { options: plain, end } = await made();
const [options, counts] = counting(plain);
const publisher = createPublisher(options);
const lag = monitorEventLoopDelay({ resolution: 1 });
const before = process.cpuUsage();
const began = performance.now();
let said = 0;

async function work(job) {
  await sleep(Math.random() * SAYS_EACH_MS);
  while (performance.now() - began < seconds * 1_000) {
    job.progress(((performance.now() - began) / (seconds * 10)) % 100, "renders");
    said += 1;
    await sleep(SAYS_EACH_MS);
  }
}

lag.enable();
await Promise.all(
  Array.from({ length: jobs }, (_, index) => publisher.trackJob(`bench_${index % 100}`, `job_${index}`, "video", work)),
);
lag.disable();
const took = (performance.now() - began) / 1_000;
const { user, system } = process.cpuUsage(before);
const rate = (count) => Math.round(count / took);
console.log(`${CLIENT}: ${jobs} jobs for ${took.toFixed(1)} s; job.progress() ${rate(said)}/s`);
console.log(
  `  sent: ${rate(counts.events)} events/s in ${rate(counts.requests)} ${options.redis ? "commands" : "requests"}/s`,
);
console.log(
  `  CPU: ${((user + system) / 1e6 / took).toFixed(2)} of a core; ${((user + system) / counts.events).toFixed(0)} us an event`,
);
console.log(
  `  event loop late by: median ${(lag.percentile(50) / 1e6).toFixed(1)} ms, p99 ${(lag.percentile(99) / 1e6).toFixed(1)} ms, most ${(lag.max / 1e6).toFixed(1)} ms`,
);
await publisher.close();
await end();
