/** examples/nextjs as it is built: a server action starts a job of BullMQ, and the page shows it, with a token. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { startChromium } from "./support/chromium.js";
import { type Ended, freePort, Redis, Replica } from "./support/processes.js";
import { until } from "./support/wait.js";

const APP = fileURLToPath(new URL("../../examples/nextjs/", import.meta.url));
const SECRET = "0123456789abcdef".repeat(4);

const owned: Ended[] = [];
afterEach(async () => {
  for (const one of owned.splice(0).reverse()) await one.end();
});

async function own<T extends Ended>(starting: Promise<T>): Promise<T> {
  const one = await starting;
  owned.push(one);
  return one;
}

/** `next start`, with these settings. */
class NextServer implements Ended {
  readonly url: string;
  #child: ChildProcess;
  log = "";

  private constructor(port: number, settings: Record<string, string>) {
    this.url = `http://127.0.0.1:${port}/`;
    const env = { ...process.env, ...settings, NEXT_TELEMETRY_DISABLED: "1" };
    const words = ["node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", String(port)];
    this.#child = spawn(process.execPath, words, { cwd: APP, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on("data", (data) => (this.log += data));
  }

  static async start(settings: Record<string, string>): Promise<NextServer> {
    const server = new NextServer(await freePort(), settings);
    const answers = async () => (await fetch(server.url).catch(() => undefined))?.ok === true;
    await until("Next.js answers", answers, { within: 60_000, explain: () => server.log });
    return server;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "exit");
  }
}

test("a job that a server action starts is shown by the page, from its steps to its file", async () => {
  const redis = await own(Redis.start());
  const replica = await own(Replica.start(redis, { GATEWAY_AUTH: "jwt", GATEWAY_JWT_SECRET: SECRET }));
  const settings = { REDIS_URL: redis.url, GATEWAY_WS_URL: replica.url, GATEWAY_JWT_SECRET: SECRET, STEP_MS: "500" };
  const server = await own(NextServer.start(settings));
  const { browser } = await own(startChromium());
  const page = await browser.newPage();
  await page.goto(server.url);
  const shown = async (): Promise<string> => (await page.locator("main").innerText()).replace(/\s+/g, " ");
  const seen = (text: string) =>
    until(`the page shows "${text}"`, async () => (await shown()).includes(text), {
      within: 60_000,
      explain: async () => ({ shown: await shown(), log: server.log }),
    });

  await seen("connected");
  await page.fill("input[name=title]", "dogs");
  await page.click("button");
  await seen("videos:1: rendering");
  await seen("videos:1: dogs.mp4");
  expect(await page.locator("progress").getAttribute("value")).toBe("100");
});
