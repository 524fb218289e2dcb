/** Every kind of client that a publisher takes, and what a test may ask of it. */

import { Redis as Ioredis } from "ioredis";
import { createClient } from "redis";
import type { IoredisClient, NodeRedisClient } from "../../src/index.js";

export interface TestClient {
  readonly client: IoredisClient | NodeRedisClient;
  end(): Promise<void>;
}

/** Clients of one server, by name of their package. */
export const CLIENTS: Readonly<Record<string, (port: number) => Promise<TestClient>>> = {
  ioredis: async (port) => {
    const client = new Ioredis({ port, host: "127.0.0.1", retryStrategy: () => 50 });
    return { client, end: async () => client.disconnect() };
  },
  "node-redis": async (port) => {
    const client = createClient({ socket: { port, host: "127.0.0.1", reconnectStrategy: 50 } });
    client.on("error", () => {});
    await client.connect();
    return { client, end: async () => client.destroy() };
  },
};
