/** The page at `/` of a replica, in a real browser: long jobs, and what an open page and a new one show. */

import { expect } from "vitest";
import { test } from "./support/lab.js";
import { progress } from "./support/processes.js";
import { until } from "./support/wait.js";

const SENTENCES = 5_000;

test("thousands of sentences: rows only where they are in sight, all of them in reach", async ({ lab }) => {
  const { replica, publisher } = await lab.startStack();
  const ids = Array.from({ length: SENTENCES }, (_, index) => `s${index + 1}`);
  await publisher.publish("p", ...ids.map((sentenceId) => ({ ...progress("book", 0), sentenceId })));
  const page = await lab.openDashboard(replica, "p");
  await page.locator(".tally", { hasText: "0 of 5,000 sentences" }).waitFor();
  expect(await page.locator(".window > li").count()).toBeLessThan(40);
  expect(await page.evaluate(() => document.querySelectorAll("*").length)).toBeLessThan(600);

  const row = (id: string) => page.locator(".window > li").filter({ has: page.getByText(id, { exact: true }) });
  const list = page.locator(".window");
  const rows = await list.evaluate(({ scrollHeight, clientHeight }) => [scrollHeight / 26, clientHeight / 26]);
  expect([rows[0], Math.floor(rows[1]!)]).toEqual([SENTENCES, 10]); // the script and the stylesheet agree
  await list.hover();
  await page.mouse.wheel(0, 1e7);
  await row("s5000").waitFor();
  const [listBox, rowBox] = [await list.boundingBox(), await row("s5000").boundingBox()];
  expect(rowBox!.y + rowBox!.height).toBeLessThanOrEqual(listBox!.y + listBox!.height + 1);
  await publisher.publish("p", { ...progress("book", 70), sentenceId: "s5000" });
  await row("s5000").getByText("70\u00a0%").waitFor();
  expect(await page.locator(".window > li").count()).toBeLessThan(40);
});

test("sentences side by side: a page that was there shows what a page that opens now shows", async ({ lab, stack }) => {
  const { replica, publisher } = stack;
  const live = await lab.openDashboard(replica, "side");
  await live.getByText("No jobs yet").waitFor();
  const sentence = (number: number) => ({ ...progress("six", 20), sentenceId: `s${number}` });
  await publisher.publish("side", ...[1, 2, 3, 4, 5].map(sentence));
  await publisher.publish("side", {
    type: "job_complete",
    jobId: "six",
    jobType: "audio",
    sentenceId: "s6",
    result: {},
  });
  const fresh = await lab.openDashboard(replica, "side");
  for (const page of [live, fresh]) {
    await page.locator(".tally", { hasText: "1 of 6 sentences" }).waitFor();
    await until(
      "the job is at 33 %",
      async () => (await page.locator(".card > header .percent").textContent()) === "33\u00a0%",
    );
  }
});
