/** The cases of tests/cases/, which hold every implementation to the same rules: sent by this package, judged by Redis. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Redis } from "../../frontend/e2e/support/processes.js";
import { Log } from "../src/log.js";
import { publicationOf, type Sent } from "../src/publication.js";
import { RedisTransport } from "../src/redis.js";
import { CLIENTS, type TestClient } from "./support/clients.js";
import { Collected } from "./support/collected.js";

type Given = Record<string, unknown> & { jobId?: string; sentenceId?: string; atLeast?: number };
type View = { status: string; percent: number };

interface Case {
  name: string;
  events: Given[];
  answers: (string | number)[];
  jobs: Record<string, View & { attempt?: number; sentences: Record<string, View> }>;
}

const FOLDER = join(import.meta.dirname, "../../tests/cases");
const cases: Case[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .flatMap((name) => JSON.parse(readFileSync(join(FOLDER, name), "utf8")).cases);

const REFUSALS = ["replaced", "ended", "lower"];

/** What Redis said, as far as it tells the answers of a case apart. */
function answerOf({ seq, attempt, replacedBy }: Sent, asksNext: boolean): string | number | undefined {
  if (asksNext) return attempt;
  if (seq !== null) return "news";
  return replacedBy === undefined ? "ended or lower" : "replaced";
}

const expected = (answer: string | number): string | number =>
  answer === "begins" ? "news" : answer === "ended" || answer === "lower" ? "ended or lower" : answer;

function viewOf(event: Record<string, unknown>): View {
  if (event["type"] === "progress") return { status: "running", percent: event["progress"] as number };
  return event["type"] === "job_complete" ? { status: "complete", percent: 100 } : { status: "failed", percent: 0 };
}

let redis: Redis;
let client: TestClient;
let transport: RedisTransport;
beforeAll(async () => {
  redis = await Redis.start();
  client = await CLIENTS["ioredis"]!(redis.port);
  transport = new RedisTransport({ redis: client.client }, new Log(new Collected()));
});
afterAll(async () => {
  await client.end();
  await redis.end();
});

test("there are cases", () => {
  expect(cases.length).toBeGreaterThan(20);
});

describe.each(cases.map((one, index) => [one.name, one, `case_${index}`] as const))("%s", (_name, one, project) => {
  test("Redis answers as the case says, and remembers its state", async () => {
    const answers: unknown[] = [];
    for (const { atLeast, ...given } of one.events) {
      const event: Record<string, unknown> = { type: "progress", jobId: "j", jobType: "audio", ...given };
      const asksNext = event["attempt"] === "next";
      const publication = publicationOf(project, event, "", asksNext ? atLeast : undefined);
      const { sent } = await transport.send([publication]);
      answers.push(answerOf(sent[0]!, asksNext));
    }
    expect(answers).toEqual(one.answers.map(expected));
    expect(
      one.answers.every((answer) => typeof answer === "number" || ["news", "begins", ...REFUSALS].includes(answer)),
    ).toBe(true);
    const known = [...(await transport.allRemembered(project))].filter(([field]) => field.indexOf("\n") > 0);
    const parts = new Map(known.map(([field, payload]) => [field, JSON.parse(payload)]));
    for (const [jobId, job] of Object.entries(one.jobs)) {
      for (const [sentenceId, view] of Object.entries(job.sentences)) {
        expect(viewOf(parts.get(`${jobId}\n${sentenceId}`))).toEqual(view);
      }
      const own = parts.get(`${jobId}\n`);
      if (own) expect(viewOf(own)).toEqual({ status: job.status, percent: job.percent });
      const sentences = [...parts.keys()].filter((field) => field.startsWith(`${jobId}\n`) && field !== `${jobId}\n`);
      expect(sentences).toHaveLength(Object.keys(job.sentences).length);
    }
  });
});
