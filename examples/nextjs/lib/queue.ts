/** What the server of this app shares: the queue, and the publisher that its worker tells viewers by. */

import { createPublisher, type Publisher } from "@progress-gateway/publisher";
import { type ConnectionOptions, Queue } from "bullmq";
import { Redis } from "ioredis";

const redisUrl = process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0";

export const connection: ConnectionOptions = { url: redisUrl };

/** What a job is made from. `projectId` is where its viewers see it. */
export interface Order {
  projectId: string;
  title: string;
}

// Made at first use: `next build` loads this file, too, where there is no Redis.
let queue: Queue<Order> | undefined;
let made: Publisher | undefined;

export const videos = (): Queue<Order> => (queue ??= new Queue("videos", { connection }));

/** Through the Redis of the gateway; here it is that of the queue, too. */
export const publisher = (): Publisher => (made ??= createPublisher({ redis: new Redis(redisUrl) }));
