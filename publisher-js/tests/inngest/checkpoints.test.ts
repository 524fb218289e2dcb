/** Version 4 of the SDK runs several steps in one request, and tells Inngest of each meanwhile: its default. */

import { Inngest } from "inngest";
import { serve } from "inngest/edge";
import { expect, test } from "vitest";
import { progressMiddleware } from "../../src/inngest.js";
import { stage, watching } from "../support/stage.js";
import { type Handler, type Op, Run } from "./executor.js";
import { QUIET } from "./sdk.js";
import { ValueError } from "./stories.js";

const here = stage();

test("many steps in one request, one of which fails once: each word once, and one end", () =>
  watching(here, async (watched) => {
    let run: Run;
    const api = async (_: unknown, init?: RequestInit) => {
      run.takeEarly(JSON.parse(String(init?.body)).steps as Op[]);
      return new Response("{}", { status: 200 });
    };
    const client = new Inngest({
      id: "studio",
      isDev: true,
      middleware: [progressMiddleware(here.publisher)],
      logger: QUIET,
      fetch: api as typeof fetch,
    });
    let fails = 1;
    const render = client.createFunction({ id: "render", triggers: [{ event: "test" }] }, async ({ job, step }) => {
      for (const [index, name] of ["one", "two", "three", "four"].entries()) {
        await step.run(name, async () => {
          if (name === "three" && fails-- > 0) throw new ValueError("no disk");
          job.progress(20 * (index + 1), name);
          await here.publisher.flush(20);
        });
        job.progress(20 * (index + 1) + 10, `after ${name}`);
        await here.publisher.flush(20);
      }
      return { file: "cat.mp4" };
    });
    const data = { projectId: watched.project, jobType: "video" };
    const context = { fn_id: "internal", qi_id: "item" };
    run = new Run(serve({ client, functions: [render] }) as Handler, "studio-render", { data, context });
    expect(await run.execute()).toEqual(["completed", { file: "cat.mp4" }]);
    expect(run.requests).toBeLessThan(5); // fewer than steps and their retry: they shared requests
    const events = await watched.events();
    const said = events.flatMap(({ message }) => message ?? []).filter((text) => !text.includes("again"));
    expect(said).toEqual(["one", "after one", "two", "after two", "three", "after three", "four", "after four"]);
    expect(events.filter(({ type }) => type !== "progress")).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ type: "job_complete", attempt: 0, result: { file: "cat.mp4" } });
  }));
