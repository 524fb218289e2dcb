/** A Cluster, and servers behind Sentinels, as ioredis and node-redis do them. */

import { Cluster, Redis as Ioredis } from "ioredis";
import { createCluster, createSentinel } from "redis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createPublisher, type IoredisClient, type NodeRedisClient } from "../src/index.js";
import { Servers, startCluster, startSentinel } from "./support/cluster.js";
import { Collected } from "./support/collected.js";

const servers = new Servers();
let nodes: number[];
let sentinel: number;
beforeAll(async () => {
  [nodes, sentinel] = await Promise.all([startCluster(servers), startSentinel(servers)]);
});
afterAll(() => servers.end());

type Made = readonly [client: IoredisClient | NodeRedisClient, end: () => unknown];

const CLUSTERS: Record<string, () => Promise<Made>> = {
  ioredis: async () => {
    const client = new Cluster([{ host: "127.0.0.1", port: nodes[0]! }]);
    return [client, () => client.disconnect()];
  },
  "node-redis": async () => {
    const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${nodes[0]}` }] });
    await client.connect();
    return [client, () => client.destroy()];
  },
};

const SENTINELS: Record<string, () => Promise<Made>> = {
  ioredis: async () => {
    const client = new Ioredis({ name: "mymaster", sentinels: [{ host: "127.0.0.1", port: sentinel }] });
    return [client, () => client.disconnect()];
  },
  "node-redis": async () => {
    const client = createSentinel({ name: "mymaster", sentinelRootNodes: [{ host: "127.0.0.1", port: sentinel }] });
    client.on("error", () => {});
    await client.connect();
    return [client, () => client.destroy()];
  },
};

describe.each(Object.keys(CLUSTERS))("a Cluster by %s", (name) => {
  test("events of any projects go to their nodes, and are heard there by SSUBSCRIBE", async () => {
    const [redis, end] = await CLUSTERS[name]!();
    const log = new Collected();
    const publisher = createPublisher({ redis, logger: log });
    const subscriber = new Cluster([{ host: "127.0.0.1", port: nodes[0]! }], { shardedSubscribers: true });
    const heard: string[] = [];
    subscriber.on("smessage", (_channel: string, text: string) => heard.push(text));
    await subscriber.ssubscribe(`project:${name}_0`);
    const projects = Array.from({ length: 12 }, (_, index) => `${name}_${index}`);
    const event = { type: "progress", jobId: "j", jobType: "audio", progress: 5 } as const;
    const seqs = await publisher.broadcastMany(projects.map((project) => [project, event] as const));
    expect(seqs.every((seq) => typeof seq === "number")).toBe(true);
    expect(await publisher.lastEvent(`${name}_11`, "j")).toMatchObject({ progress: 5, seq: seqs[11] });
    await publisher.trackJob(`${name}_0`, "k", "audio", async (job) => job.sentence("s").progress(10));
    await expect.poll(() => heard.some((text) => text.includes("job_complete")), { timeout: 20_000 }).toBe(true);
    expect(await publisher.lastEvent(`${name}_0`, "k", "s")).toMatchObject({ type: "job_complete", attempt: 0 });
    expect(log.lines).toEqual([]);
    await publisher.close();
    subscriber.disconnect();
    end();
  });
});

describe.each(Object.keys(SENTINELS))("behind Sentinels by %s", (name) => {
  test("a tracked job", async () => {
    const [redis, end] = await SENTINELS[name]!();
    const publisher = createPublisher({ redis, logger: new Collected() });
    await publisher.trackJob(`sentinel_${name}`, "j", "audio", async (job) => job.progress(40));
    expect(await publisher.lastEvent(`sentinel_${name}`, "j")).toMatchObject({ type: "job_complete", attempt: 0 });
    await publisher.close();
    end();
  });
});

describe("what is no client, or one that would write elsewhere", () => {
  test.each([
    [{}, "redis: must be a client of ioredis"],
    [undefined, "redis: must be a client of ioredis"],
    [new Ioredis({ keyPrefix: "x:", lazyConnect: true }), "redis: has a keyPrefix"],
  ])("case %#", (redis, words) => {
    expect(() => createPublisher({ redis: redis as never })).toThrow(words);
  });

  test("one node of a Cluster is said to be one", async () => {
    const client = new Ioredis({ port: nodes[0]!, host: "127.0.0.1" });
    const log = new Collected();
    const publisher = createPublisher({ redis: client, logger: log });
    const events = Array.from(
      { length: 12 },
      (_, i) => [`one_${i}`, { type: "progress", jobId: "j", jobType: "a", progress: 5 }] as const,
    );
    expect(await publisher.broadcastMany(events)).toContain(null);
    expect(log.lines.join()).toContain("give a client of the Cluster");
    client.disconnect();
  });

  test("a client of node-redis that nobody connected, and one that was closed", async () => {
    const client = new Ioredis({ port: nodes[0]!, host: "127.0.0.1" });
    client.disconnect();
    const log = new Collected();
    const event = { type: "progress", jobId: "j", jobType: "a", progress: 5 } as const;
    expect(await createPublisher({ redis: client, logger: log }).broadcastToProject("p", event)).toBeNull();
    expect(log.lines.join()).toContain("The client was closed");
  });
});
