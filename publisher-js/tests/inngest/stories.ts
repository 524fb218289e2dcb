/**
 * What viewers see of runs, the same as from Python's middleware: tests/stories/inngest.json, whose other half is
 * tests/publisher/test_inngest_stories.py; of what is said twice only the first time counts. The functions are served, and called as Inngest's server calls them.
 */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Publisher } from "../../src/index.js";
import { type Line, stage, type Watched, watching } from "../support/stage.js";
import { Run, type RunOptions } from "./executor.js";
import type { App, Context, Sdk } from "./sdk.js";

const CASES = new URL("../../../tests/stories/inngest.json", import.meta.url);
const STORIES: Record<string, Line[]> = JSON.parse(readFileSync(CASES, "utf8")).stories;

export class ValueError extends Error {
  override readonly name = "ValueError";
}

export const data = ({ project }: Watched) => ({ projectId: project, jobType: "video" });

/** Three steps, some of which fail a few times; then the function returns, or throws. Each word is sent: the latest would win. */
function threeSteps(publisher: Publisher, fails: Record<string, number> = {}, end?: Error) {
  const left = { ...fails };
  return async ({ job, step }: Context) => {
    await publisher.flush(20);
    const say = async (percent: number, message: string) => {
      job.progress(percent, message);
      await publisher.flush(20);
    };
    const run = async (name: string, percent: number) => {
      await step.run(name, async () => {
        if ((left[name] ?? 0) > 0) {
          left[name]! -= 1;
          throw new ValueError(`${name} broke`);
        }
        await say(percent, name);
      });
      await say(percent + 1, `after ${name}`);
    };
    await run("one", 30);
    await run("two", 60);
    await run("three", 90);
    if (end !== undefined) throw end;
    return { file: "cat.mp4", duration: 3.5 };
  };
}

const isNew = (line: Line, index: number, lines: Line[]): boolean =>
  lines.findIndex((other) => JSON.stringify(other) === JSON.stringify(line)) === index;

export const execute = (app: App, fn: unknown, options: RunOptions, id = "studio-render") =>
  new Run(app.serve(fn), id, options).execute();

export function stories(sdk: Sdk): void {
  const here = stage();

  test.each([
    ["three steps", {}, undefined, 4],
    ["a step is tried three times", { two: 2 }, undefined, 4],
    ["a step fails for good", { two: 9 }, undefined, 4],
    ["the function fails for good", {}, new ValueError("no disk"), 2],
  ] as const)("%s", (name, fails, end, maxAttempts) =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const fn = app.create("render", threeSteps(here.publisher, fails, end));
      const [outcome] = await execute(app, fn, { data: data(watched), maxAttempts });
      expect(outcome).toBe(STORIES[name]?.at(-1)?.[1] === "job_complete" ? "completed" : "failed");
      expect((await watched.story()).filter(isNew)).toEqual(STORIES[name]);
    }),
  );

  test("a run that is cancelled is ended by the reporter, once", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const fn = app.create("render", async ({ job, step }) => {
        await here.publisher.flush(20);
        job.progress(40, "half");
        await step.sleep("a night", 1);
      });
      const run = new Run(app.serve(fn), "studio-render", { data: data(watched), runId: "run" });
      expect((await run.request("step", 0)).status).toBe(206);
      const event = { event: { name: "test", data: data(watched) }, run_id: "run", function_id: "render" };
      const told = { data: event, eventName: "inngest/function.cancelled" };
      for (let time = 0; time < 2; time++) {
        await execute(app, app.reporter(), told, "studio-progress-end-reporter");
      }
      expect(await watched.story()).toEqual(STORIES["a run is cancelled"]);
    }));
}
