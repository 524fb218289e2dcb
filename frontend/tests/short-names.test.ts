/** The names that the published files shorten are nobody else's, and the shortened client does what it did. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { advance, P, page, progress, withFakeTime } from "./support.js";

withFakeTime();

const ROOT = join(import.meta.dirname, "..");

/** In a process of its own: esbuild wants no part of a page around it. */
const run = (script: string): string =>
  execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: ROOT, encoding: "utf8" });

test("no message, snapshot, job, client or option has a member of such a name", async () => {
  const names = JSON.parse(
    run(`import { INTERNAL } from "./scripts/short-names.mjs"; process.stdout.write(JSON.stringify(INTERNAL))`),
  ) as string[];
  const shown = await page();
  await shown.hear(progress("a", 10, { sentenceId: "s", seq: 1 }));
  const { now, client, events } = shown;
  const values = [now, now.jobs["a"]!, now.jobCounts, events[0]!, client, client.project(P), new FakeGateway()];
  const schema = readFileSync(join(ROOT, "../docs/messages.schema.json"), "utf8");
  const options = readFileSync(join(ROOT, "src/options.ts"), "utf8");
  for (const name of names) {
    expect(values.filter((value) => Object.hasOwn(value, name))).toEqual([]);
    expect(schema).not.toContain(`"${name}":`);
    expect(options).not.toMatch(new RegExp(`\\b${name}\\?:`));
  }
  await advance(100);
});

test("a client with short names shows what the one with long names does", () => {
  const entry = `
    import { FakeGateway } from "./src/testing.ts";
    const gateway = new FakeGateway();
    gateway.allow("t", { projects: ["a"] });
    const client = gateway.client({ getToken: () => "t" });
    const ended = [];
    const [a, b] = ["a", "b"].map((id) => client.project(id));
    a.subscribe(() => {}, { onTerminal: (job, event, what) => ended.push([job.percent, event.type, what]) });
    b.subscribe(() => {});
    setTimeout(() => {
      gateway.publish("a", { type: "progress", jobId: "j", jobType: "x", sentenceId: "s", progress: 50 });
      gateway.publish("a", { type: "job_complete", jobId: "j", jobType: "x", result: { file: "f" } });
      setTimeout(() => {
        const { status, isStale, jobs } = a.getSnapshot();
        const { code } = b.getSnapshot().error;
        console.log(JSON.stringify([status, isStale, jobs.j.result, jobs.j.sentences.s.percent, ended, code]));
        process.exit(0);
      }, 300);
    }, 100);`;
  const script = `
    import { build } from "esbuild";
    import { mangling } from "./scripts/short-names.mjs";
    const stdin = { contents: ${JSON.stringify(entry)}, resolveDir: ".", loader: "ts" };
    const { outputFiles } = await build({ stdin, bundle: true, format: "esm", write: false, ...mangling });
    await import("data:text/javascript;base64," + Buffer.from(outputFiles[0].text).toString("base64"));`;
  expect(JSON.parse(run(script))).toEqual([
    "connected",
    false,
    { file: "f" },
    50,
    [[100, "job_complete", "job"]],
    "forbidden",
  ]);
});
