/** The clients of Redis that authors hand in, as one: ioredis and node-redis, each alone, behind Sentinels and in a Cluster. */

import { ANSWER_MS, now, pause, TransportError, within } from "./circuit.js";
import { EventError } from "./errors.js";
import type { IoredisClient, NodeRedisClient } from "./types.js";

const LOOK_AGAIN_MS = 25;

export interface Link {
  readonly isCluster: boolean;
  /**
   * Resolve once the client is connected. Before that nothing is handed to it: it would keep the commands, and send old
   * events late.
   */
  ready(ms: number): Promise<void>;
  /** Run one command on the server that has `key`; rejects with what the client does. */
  call(key: string, words: readonly string[]): Promise<unknown>;
  close(): void;
}

/** What is looked at in a client, whichever it is. */
interface Client {
  status?: string;
  isOpen?: boolean;
  isReady?: boolean;
  isCluster?: boolean;
  options?: { keyPrefix?: string; redisOptions?: { keyPrefix?: string } };
  on?(name: string, listener: (error: unknown) => void): unknown;
  off?(name: string, listener: (error: unknown) => void): unknown;
  listenerCount?(name: string): number;
  call?(...words: unknown[]): Promise<unknown>;
  sendCommand?(...words: unknown[]): Promise<unknown>;
}

/** Throws `EventError` for what is no client, or one that would write elsewhere than the gateway reads. */
export function linkOf(given: IoredisClient | NodeRedisClient, heard: (error: unknown) => void): Link {
  const client = given as unknown as Client;
  const isIoredis = typeof client?.call === "function" && typeof client.status === "string";
  if (!isIoredis && typeof client?.sendCommand !== "function") {
    throw new EventError({ redis: "must be a client of ioredis (new Redis()) or of redis (createClient())" });
  }
  if (client.options?.keyPrefix || client.options?.redisOptions?.keyPrefix) {
    throw new EventError({ redis: "has a keyPrefix, by which no gateway finds the events: give a client without one" });
  }
  // A client of node-redis throws where nobody listens, and so ends the process.
  const listens = client.listenerCount?.("error") === 0;
  if (listens) client.on?.("error", heard);
  const run = isIoredis ? callOfIoredis(client) : callOfNodeRedis(client);
  const state = isIoredis ? () => stateOfIoredis(client) : () => stateOfNodeRedis(client);
  return {
    isCluster: isIoredis ? client.isCluster === true : isNodeRedisCluster(client),
    ready: (ms) => waitUntilReady(state, ms),
    call: (key, words) => within(run(key, words), ANSWER_MS),
    close: () => {
      if (listens) client.off?.("error", heard);
    },
  };
}

type Call = (key: string, words: readonly string[]) => Promise<unknown>;

const callOfIoredis =
  (client: Client): Call =>
  (_key, words) =>
    client.call?.(...words) as Promise<unknown>;

/** The three kinds of client differ in the arguments of `sendCommand`. */
function callOfNodeRedis(client: Client): Call {
  const send = (...given: unknown[]): Promise<unknown> => client.sendCommand?.(...given) as Promise<unknown>;
  if (isNodeRedisCluster(client)) return (key, words) => send(key, false, words);
  if (isNodeRedisSentinel(client)) return (_key, words) => send(false, words);
  return (_key, words) => send(words);
}

const isNodeRedisCluster = (client: object): boolean => "nodeByAddress" in client;
const isNodeRedisSentinel = (client: object): boolean => "getSentinelNode" in client || "getMasterNode" in client;

/** Why a client cannot be used now: "" if it can. `isClosed`: it will not connect by itself. */
interface State {
  readonly problem: string;
  readonly isClosed?: boolean;
}

function stateOfIoredis({ status }: Client): State {
  if (status === "ready" || status === "wait") return { problem: "" }; // `wait`: the first command makes it connect
  if (status === "end") return { problem: "the client was closed by this program", isClosed: true };
  return { problem: `the client is not ready (${status})` };
}

function stateOfNodeRedis({ isOpen, isReady }: Client): State {
  if (isOpen === false) return { problem: "the client is not connected" };
  return { problem: isReady === false ? "the client is not ready (reconnecting)" : "" };
}

async function waitUntilReady(state: () => State, ms: number): Promise<void> {
  const until = now() + ms;
  for (;;) {
    const { problem, isClosed } = state();
    if (!problem) return;
    if (isClosed) throw new TransportError(problem, false);
    if (now() >= until) throw new TransportError(problem, true);
    await pause(LOOK_AGAIN_MS);
  }
}
