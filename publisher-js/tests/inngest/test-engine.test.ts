/** `@inngest/test`, by which authors test their functions: it makes no requests, only executions. */

import { InngestTestEngine } from "@inngest/test";
import { Inngest } from "inngest";
import { expect, expectTypeOf, test } from "vitest";
import { endReporter, progressMiddleware, type RunJob } from "../../src/inngest.js";
import { stage, watching } from "../support/stage.js";

const here = stage();
const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

test("three steps are told in order, once, with one end", () =>
  watching(here, async ({ project, events }) => {
    const client = new Inngest({ id: "studio", middleware: [progressMiddleware(here.publisher)], logger: QUIET });
    const render = client.createFunction({ id: "render", triggers: [{ event: "test" }] }, async ({ job, step }) => {
      expectTypeOf(job).toEqualTypeOf<RunJob>();
      for (const [index, name] of ["one", "two", "three"].entries()) {
        await step.run(name, async () => {
          job.progress(30 * (index + 1), name);
          await here.publisher.flush(20);
        });
      }
      return { file: "cat.mp4" };
    });
    const engine = new InngestTestEngine({
      function: render as never,
      events: [{ name: "test", data: { projectId: project, jobType: "video", jobId: "cat" } }],
    });
    expect((await engine.execute()).result).toEqual({ file: "cat.mp4" });
    const told = await events();
    expect(told.flatMap(({ message }) => message ?? [])).toEqual(["one", "two", "three"]);
    expect(told.at(-1)).toMatchObject({ type: "job_complete", result: { file: "cat.mp4" } });
  }));

test("a mocked step and a failing one", () =>
  watching(here, async ({ project, events }) => {
    const naming = { jobId: () => "cat" };
    const client = new Inngest({
      id: "studio",
      middleware: [progressMiddleware(here.publisher, naming)],
      logger: QUIET,
    });
    const render = client.createFunction({ id: "render", triggers: [{ event: "test" }] }, async ({ job, step }) => {
      await step.run("one", async () => "real");
      job.progress(50, "half");
      await step.run("two", async () => {
        throw new TypeError("no disk");
      });
    });
    const engine = new InngestTestEngine({
      function: render as never,
      events: [{ name: "test", data: { projectId: project, jobType: "video" } }],
      steps: [{ id: "one", handler: () => "mocked" }],
    });
    expect((await engine.execute()).error).toBeDefined();
    expect((await events()).at(-1)).toMatchObject({
      jobId: "cat",
      message: "TypeError: no disk; this step will be tried again",
    });
    expect(endReporter(client, here.publisher)).toBeDefined();
  }));
