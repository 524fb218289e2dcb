/**
 * `test` with its fixtures: each test has its own lab, in a world that is started once a file. The lab ends whatever the
 * test started in it, so tests may run side by side.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Page } from "playwright-core";
import { test as bare, expect } from "vitest";
import type { AppProps } from "../app/App.js";
import { type Chromium, startChromium } from "./chromium.js";
import { type OpenOptions, PageServer, TestPage } from "./page.js";
import { type Ended, Publisher, Redis, Replica } from "./processes.js";

/** A gateway, its Redis, and a job process. */
export interface Stack {
  readonly redis: Redis;
  readonly replica: Replica;
  readonly publisher: Publisher;
}

/** The browser and the server of the test page. */
class World implements Ended {
  readonly chromium: Chromium;
  readonly pages: PageServer;
  readonly figures: string[] = [];

  private constructor(chromium: Chromium, pages: PageServer) {
    this.chromium = chromium;
    this.pages = pages;
  }

  static async start(): Promise<World> {
    return new World(...(await Promise.all([startChromium(), PageServer.start()])));
  }

  async end(): Promise<void> {
    if (this.figures.length) console.info(this.figures.join("\n"));
    await Promise.all([this.chromium.end(), this.pages.end()]);
  }
}

export class Lab implements Ended {
  #world: World;
  #owned: Ended[] = [];
  #pages: TestPage[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** The server of the test page. */
  get pages(): PageServer {
    return this.#world.pages;
  }

  /** Ended when the test ends. */
  async own<T extends Ended>(starting: Promise<T> | T): Promise<T> {
    const owned = await starting;
    this.#owned.push(owned);
    return owned;
  }

  /** A stack for this test alone, which may kill and freeze it. */
  async startStack(): Promise<Stack> {
    const redis = await this.own(Redis.start());
    const publisher = await this.own(new Publisher(redis));
    const replica = await this.own(Replica.start(redis));
    return { redis, replica, publisher };
  }

  /** The test page in a new context. */
  async open(props: AppProps, options: OpenOptions = {}): Promise<TestPage> {
    const context = await this.#world.chromium.browser.newContext();
    await this.own({ end: () => context.close() });
    return this.#show(await context.newPage(), props, options);
  }

  /** A replica's own page, on one project. */
  async openDashboard(replica: Replica, projectId: string): Promise<Page> {
    const context = await this.#world.chromium.browser.newContext();
    await this.own({ end: () => context.close() });
    const page = await context.newPage();
    await page.goto(`${replica.url.replace("ws://", "http://").replace("/ws", "/")}?project=${projectId}`);
    return page;
  }

  /** The test page in a tab of one shared window, in which only one tab is in front. */
  async openTab(props: AppProps, options: OpenOptions = {}): Promise<TestPage> {
    const [context] = this.#world.chromium.browser.contexts();
    if (!context) throw new Error("The browser has no default context");
    const page = await context.newPage();
    await this.own({ end: () => page.close() });
    return this.#show(page, props, options);
  }

  async #show(page: Page, props: AppProps, options: OpenOptions): Promise<TestPage> {
    const testPage = new TestPage(page);
    this.#pages.push(testPage);
    await testPage.open(this.pages.host, props, options);
    return testPage;
  }

  /** Freeze all pages, as on a machine that sleeps, while `meanwhile` runs outside. */
  async sleepMachine(ms: number, meanwhile: () => Promise<unknown>): Promise<void> {
    const session = await this.#world.chromium.browser.newBrowserCDPSession();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    if (!renderers.length) throw new Error("The browser has no renderer process to freeze: open a page first");
    for (const { id } of renderers) process.kill(id, "SIGSTOP");
    try {
      await Promise.all([sleep(ms), meanwhile()]);
    } finally {
      for (const { id } of renderers) process.kill(id, "SIGCONT");
    }
  }

  /** A measured value, printed at the end of the file. */
  figure(text: string): void {
    this.#world.figures.push(`  figure: ${text}`);
  }

  async end(): Promise<void> {
    const failures: unknown[] = [];
    // An error in one must not keep the others alive.
    for (const owned of this.#owned.splice(0).reverse()) await owned.end().catch((error) => failures.push(error));
    expect(failures, "what could not be ended").toEqual([]);
    const problems = this.#pages.flatMap((page) => page.problems);
    expect(problems, "errors and warnings on the consoles of the pages").toEqual([]);
  }
}

export const test = bare
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from the pattern which fixtures this needs
  .extend("world", { scope: "file" }, async ({}, { onCleanup }) => {
    const world = await World.start();
    onCleanup(() => world.end());
    return world;
  })
  .extend("stack", { scope: "file" }, async ({ world }, { onCleanup }) => {
    const lab = new Lab(world);
    onCleanup(() => lab.end());
    return lab.startStack();
  })
  .extend("lab", async ({ world }, { onCleanup }) => {
    const lab = new Lab(world);
    onCleanup(() => lab.end());
    return lab;
  });
