/** What an error of Redis means for who runs it, and what to do. A part of publisher/transport/advice.py. */

const CLUSTER = "It is one node of a Redis Cluster: give a client of the Cluster (createCluster, or ioredis' Cluster).";
const REPLICA =
  "It is a replica, perhaps since a failover, and events are published at its primary: point the client to the primary, " +
  "or to the Sentinels.";

// By the code that an error of Redis begins with.
const BY_CODE: Readonly<Record<string, string>> = {
  WRONGPASS: "Redis does not take the user or password of the client.",
  NOAUTH: "Redis wants a password: give it to the client.",
  NOPERM: "The user lacks a right. Give it those that stand under ACL SETUSER in docs/publishing.md.",
  READONLY: REPLICA,
  MASTERDOWN: REPLICA,
  LOADING: "Redis reads its data after a start. Nothing is to be done but to wait.",
  MOVED: CLUSTER,
  ASK: CLUSTER,
  CROSSSLOT: CLUSTER,
  CLUSTERDOWN: "A part of the Redis Cluster has no primary: see CLUSTER INFO and CLUSTER NODES.",
  TRYAGAIN: "A slot of the Cluster is being moved. Nothing is to be done but to wait.",
  OOM: "Redis' memory is full. Raise maxmemory, or set maxmemory-policy to volatile-ttl.",
  MISCONF: "Redis cannot save to its disk and so refuses writes. Make room there, or see its log for the reason.",
  NOREPLICAS: "Redis refuses writes without its replicas. Bring them back, or lower min-replicas-to-write.",
  WRONGTYPE: "Another program uses this key. Delete it, or set PROGRESS_NAMESPACE.",
  NEWERFORMAT: "A later version wrote there. Update this package to that version: docs/upgrading.md.",
  BUSY: "A script runs in Redis and does not end. End it with SCRIPT KILL.",
};

// By what an error says, in lower case; the first that is found counts.
const BY_WORDS: readonly (readonly [string, string])[] = [
  ["the user executing the script", BY_CODE["NOPERM"] as string],
  ["acl failure in script", BY_CODE["NOPERM"] as string],
  ["not connected", "A client of node-redis connects by `await client.connect()`."],
  ["closed by this program", "The client was closed (quit, disconnect, close): give one that stays open."],
  [
    "unknown command",
    "It lacks a command. Use Redis 6 or newer, or Valkey, with no command renamed and no proxy before it.",
  ],
  ["refused", "Nobody listens there. Start Redis, or mend the client's host and port."],
  ["enotfound", "Nobody knows the host of the client. Mend it, or the name service."],
  ["no answer", "It is frozen, paused (CLIENT PAUSE) or overloaded, or the network swallows packets: see SLOWLOG GET."],
];

// Errors by which Redis says that the same request may succeed later.
const PASSING = new Set([
  "LOADING",
  "READONLY",
  "CLUSTERDOWN",
  "MASTERDOWN",
  "TRYAGAIN",
  "NOREPLICAS",
  "MISCONF",
  "BUSY",
]);

/** The code of an error that Redis answered; undefined if it did not come from Redis. */
export const codeOf = (text: string): string | undefined => /^-?([A-Z]{2,})(?= |$)/.exec(text)?.[1];

/** Whether the same request may succeed later: Redis is away, restarting, busy or failing over. */
export function isPassing(text: string): boolean {
  const code = codeOf(text);
  return code === undefined || PASSING.has(code);
}

/** An error's own words and what to do, in one line, without what it quotes of an event. */
export function withAdvice(text: string): string {
  // Redis quotes the arguments of a command that it does not know, and with them a part of the event.
  const words = text.replace(/(,?\s*\bwith args beginning with|[\s:'"`]*\{\s*\\?").*/is, "").split("\n")[0] ?? "";
  const lower = words.toLowerCase();
  const hint = BY_CODE[codeOf(words) ?? ""] ?? BY_WORDS.find(([known]) => lower.includes(known))?.[1] ?? "";
  return `${words.replace(/\.$/, "")}. ${hint}`.trimEnd();
}
