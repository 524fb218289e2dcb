/** What the middleware does for functions of all kinds, with either version of the SDK. */

import { expect, test } from "vitest";
import { createPublisher } from "../../src/index.js";
import { stage, watching } from "../support/stage.js";
import { Run } from "./executor.js";
import type { Sdk } from "./sdk.js";
import { data, execute, ValueError } from "./stories.js";

export function behaviour(sdk: Sdk): void {
  const here = stage();
  const flush = () => here.publisher.flush(20);

  test("nothing is said twice, though the function runs again from the top", () =>
    watching(here, async (watched) => {
      let fails = 2;
      const app = sdk.app(here.publisher);
      const fn = app.create("render", async ({ job, step }) => {
        await flush();
        job.progress(10, "before");
        await flush();
        await step.run("one", async () => {});
        job.progress(40, "between");
        await flush();
        await step.run("two", async () => {
          if (fails-- > 0) throw new ValueError("no disk");
          job.progress(60, "within");
          await flush();
        });
        job.progress(80, "after");
        await flush();
      });
      await execute(app, fn, { data: data(watched), runId: "run" });
      const events = await watched.events();
      const said = events.map(({ message }) => message).filter((text) => text && !text.includes("again"));
      expect(said).toEqual(["before", "between", "within", "after"]);
      expect(events.filter(({ type }) => type !== "progress")).toHaveLength(1);
      expect(new Set(events.map(({ jobId, jobType, attempt }) => `${jobId} ${jobType} ${attempt}`))).toEqual(
        new Set(["run video 0"]),
      );
      const bars = events.flatMap(({ progress }) => progress ?? []);
      expect(bars).toEqual([...bars].sort((a, b) => a - b));
    }));

  test("steps in parallel are heard once, each part has its end, and the job's comes last", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      let done = 0;
      const fn = app.create("render", async ({ job, step }) => {
        await Promise.all(
          ["1", "2", "3"].map(async (name) => {
            await step.run(`voice ${name}`, async () => {
              const part = job.sentence(`s${name}`);
              part.progress(50, `voice ${name}`);
              await flush();
              await part.complete({ file: `${name}.mp3` });
              done += 1;
            });
            job.progress(20 * done, `${name} mixed`);
            await flush();
          }),
        );
        job.progress(90, "all mixed");
        await flush();
      });
      expect((await execute(app, fn, { data: data(watched) }))[0]).toBe("completed");
      const events = await watched.events();
      const ends = events.filter(({ type }) => type === "job_complete");
      expect(ends.map(({ sentenceId, result }) => [sentenceId, (result as { file?: string }).file])).toEqual([
        ["s1", "1.mp3"],
        ["s2", "2.mp3"],
        ["s3", "3.mp3"],
        [undefined, undefined],
      ]);
      expect(events.at(-1)?.type).toBe("job_complete");
      const texts = events.map(({ message }) => message).filter((text) => text?.startsWith("voice"));
      expect(texts).toEqual(["voice 1", "voice 2", "voice 3"]);
      expect(events.filter(({ message }) => message === "all mixed")).toHaveLength(1);
      const bars = events.filter(({ sentenceId }) => !sentenceId).flatMap(({ progress }) => progress ?? []);
      expect(bars).toEqual([...bars].sort((a, b) => a - b));
    }));

  test("a function that another one invokes is a job of its own", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const child = app.create("child", async ({ job, step }) => {
        await step.run("draw", async () => {
          job.progress(50, "drawn");
          await flush();
        });
        return { file: "a.png" };
      });
      const parent = app.create("render", async ({ job, step }) => {
        job.progress(10, "asks the child");
        const { file } = await step.invoke("draw", { function: child, data: data(watched) });
        return { file };
      });
      const answer = async () => {
        const told = { data: data(watched), eventName: "inngest/function.invoked", runId: "child" };
        return (await execute(app, child, told, "studio-child"))[1];
      };
      const run = new Run(app.serve(parent, child), "studio-render", { data: data(watched), runId: "parent", answer });
      expect(await run.execute()).toEqual(["completed", { file: "a.png" }]);
      const ends = (await watched.events()).filter(({ type }) => type !== "progress");
      expect(ends.map(({ jobId, type, result }) => [jobId, type, result])).toEqual([
        ["child", "job_complete", { file: "a.png" }],
        ["parent", "job_complete", { file: "a.png" }],
      ]);
    }));

  test("a function that goes on without a failed step is complete", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const fn = app.create("render", async ({ job, step }) => {
        try {
          await step.run("preview", async () => {
            throw new ValueError("no preview");
          });
        } catch {
          job.progress(50, "without a preview");
        }
      });
      expect((await execute(app, fn, { data: data(watched), maxAttempts: 2 }))[0]).toBe("completed");
      const ends = (await watched.events()).filter(({ type }) => type !== "progress");
      expect(ends.map(({ type }) => type)).toEqual(["job_complete"]);
    }));

  test("job.fail ends the run without another try", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const fn = app.create("render", async ({ job }) => job.fail("the script is empty"));
      expect((await execute(app, fn, { data: data(watched) }))[0]).toBe("failed");
      expect((await watched.story()).filter(([, said]) => typeof said === "string")).toEqual([
        [0, "job_failed", "the script is empty"],
      ]);
    }));

  test("what cannot be sent as JSON is what the SDK makes of it", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const fn = app.create("render", async () => ({ big: 1n }));
      const [outcome] = await execute(app, fn, { data: data(watched), maxAttempts: 1 });
      const ends = (await watched.events()).filter(({ type }) => type !== "progress");
      expect(ends.map(({ type }) => type)).toEqual([outcome === "failed" ? "job_failed" : "job_complete"]);
    }));

  test("a second run under the same id begins anew", () =>
    watching(here, async (watched) => {
      const options = { projectId: watched.project, jobType: "image", jobId: () => "7" };
      const app = sdk.app(here.publisher, options);
      const fn = app.create("render", async ({ job }) => job.progress(40));
      for (let time = 0; time < 2; time++) await execute(app, fn, { data: {} });
      const ends = (await watched.events()).filter(({ type }) => type !== "progress");
      expect(ends.map(({ jobId, jobType, attempt }) => [jobId, jobType, attempt])).toEqual([
        ["7", "image", 0],
        ["7", "image", 1],
      ]);
    }));

  test("a long step promises that it lives, and the promise is taken back with the request", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher, { heartbeat: 0.2 });
      const fn = app.create("render", async ({ step }) => {
        await step.run("long", async () => {
          await watched.until("a heartbeat", ({ nextWithin }) => nextWithin === 0.4);
        });
        await step.sleep("a night", 1);
      });
      await execute(app, fn, { data: data(watched) });
      const promises = (await watched.events()).map(({ nextWithin }) => nextWithin);
      expect([promises[0], promises.at(-2)]).toEqual([undefined, undefined]);
      expect(promises).toContain(0.4);
    }));

  test("the ends that no middleware sees are told by the reporter, of open parts too", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      const event = { type: "progress", jobId: "run", jobType: "video", progress: 50 } as const;
      await here.publisher.broadcastToProject(watched.project, { ...event, attempt: "next" });
      await here.publisher.broadcastToProject(watched.project, { ...event, attempt: 0, sentenceId: "s1" });
      const error = { name: "Error", message: "could not reach the app" };
      const told = { event: { name: "test", data: data(watched) }, run_id: "run", error };
      for (let time = 0; time < 2; time++) {
        const options = { data: told, eventName: "inngest/function.failed" };
        await execute(app, app.reporter(), options, "studio-progress-end-reporter");
      }
      const ends = (await watched.events()).filter(({ type }) => type === "job_failed");
      expect(ends.map(({ sentenceId, reason, error: text }) => [sentenceId, reason, text])).toEqual([
        ["s1", "lost", "Stopped: its worker ended"],
        [undefined, "lost", "Stopped: its worker ended"],
      ]);
    }));

  test("a handler of failures is no job", () =>
    watching(here, async (watched) => {
      const app = sdk.app(here.publisher);
      let handled = 0;
      const onFailure = async () => {
        handled += 1;
      };
      const fn = app.create("render", async () => {}, { onFailure });
      const failure = {
        event: { name: "test", data: data(watched) },
        run_id: "run",
        error: { name: "E", message: "m" },
      };
      const told = { data: { ...failure, ...data(watched) }, eventName: "inngest/function.failed" };
      await execute(app, fn, told, "studio-render-failure");
      expect(handled).toBe(1);
      expect(await watched.events()).toEqual([]);
    }));

  test.each([{}, { projectId: "no project!", jobType: "video" }, { projectId: "p" }])(
    "a run that cannot be told runs all the same: %j",
    (event) =>
      watching(here, async () => {
        const lines: string[] = [];
        const logger = { warn: (line: string) => void lines.push(line), error: () => {} };
        const app = sdk.app(here.publisher, { logger });
        const fn = app.create("render", async ({ job, step }) => {
          job.progress(10);
          await step.run("one", async () => job.sentence("s").progress(10));
          await job.sentence("s").complete();
          job.complete({ file: "x" });
          return [...job.track("ab")].join("");
        });
        expect(await execute(app, fn, { data: event })).toEqual(["completed", "ab"]);
        // An event without a project is not meant to be shown. The other two are told at each request.
        expect(lines.length > 0).toBe("projectId" in event);
      }),
  );

  test("a Redis that refuses breaks no function", async () => {
    const logger = { warn() {}, error() {} };
    const refusal = Object.assign(new Error("WRONGPASS invalid username-password pair"), { name: "ReplyError" });
    const redis = { status: "ready", call: async () => Promise.reject(refusal) };
    const publisher = createPublisher({ redis, logger });
    const app = sdk.app(publisher, { logger });
    let fails = 1;
    const fn = app.create("render", async ({ job, step }) => {
      await step.run("one", async () => {
        if (fails-- > 0) throw new ValueError("one broke");
        job.progress(50);
      });
    });
    const outcome = await execute(app, fn, { data: { projectId: "p", jobType: "video" } });
    expect(outcome[0]).toBe("completed");
    await publisher.close();
  });

  test("by HTTP nothing can be asked: the attempt goes on by what the process remembers, or without a number", () =>
    watching(here, async (watched) => {
      const lastEvent = async () => Promise.reject(new Error("no such question"));
      const blind = new Proxy(here.publisher, {
        get: (target, name) => (name === "lastEvent" ? lastEvent : Reflect.get(target, name).bind(target)),
      });
      let fails = 1;
      const work = async ({ job, step }: Parameters<Parameters<typeof app.create>[1]>[0]) => {
        await step.run("one", async () => job.progress(40, "one"));
        job.progress(50, "between");
        await step.run("two", async () => {
          if (fails-- > 0) throw new ValueError("two broke");
          job.progress(30, "two"); // lower: the bar stays
          await flush();
        });
        job.complete({ file: "a.mp4" });
      };
      const app = sdk.app(blind);
      const fn = app.create("render", work);
      expect((await execute(app, fn, { data: data(watched) }))[0]).toBe("completed");
      const events = await watched.events();
      const bars = events.flatMap(({ progress }) => progress ?? []);
      expect(bars).toEqual([...bars].sort((a, b) => a - b));
      expect(new Set(events.map(({ attempt }) => attempt))).toEqual(new Set([0]));
      expect(events.at(-1)).toMatchObject({ type: "job_complete", result: { file: "a.mp4" } });
      expect(events.filter(({ type }) => type !== "progress")).toHaveLength(1);
    }));
}
