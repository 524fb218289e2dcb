/** The cases of tests/cases/, which hold every implementation to the same rules. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { judge } from "../src/rules.js";
import { full, type Given, play, type Step } from "./play.js";

interface Case {
  name: string;
  events: (Omit<Given, "attempt"> & { attempt?: number | "next" })[];
  answers: (string | number)[];
  jobs: ReturnType<typeof play>;
}

const FOLDER = join(import.meta.dirname, "../../tests/cases");
const cases: Case[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .flatMap((name) => JSON.parse(readFileSync(join(FOLDER, name), "utf8")).cases);

/** The events as the gateway sends them: numbered, and with the attempt that Redis gave. */
const published = ({ events, answers }: Case): Given[] =>
  events.map((event, index) => {
    const attempt = event.attempt === "next" ? (answers[index] as number) : event.attempt;
    return { ...event, seq: index + 1, ...(attempt === undefined ? {} : { attempt }) } as Given;
  });

/** What Redis remembers after the case, in order of seq. */
function remembered(given: Case): Given[] {
  const jobs = new Map<string, { attempt: number | undefined; parts: Map<string, Given> }>();
  published(given).forEach((event) => {
    const { jobId, sentenceId = "", attempt } = full(event);
    const job = jobs.get(jobId) ?? { attempt: undefined, parts: new Map() };
    jobs.set(jobId, job);
    const known = job.parts.get(sentenceId);
    const verdict = judge(job.attempt, known && full(known), full(event));
    if (verdict === "refused") return;
    if (verdict === "begins") job.parts.clear();
    job.attempt = attempt ?? job.attempt;
    job.parts.set(sentenceId, event);
  });
  return [...jobs.values()].flatMap(({ parts }) => [...parts.values()]).sort((a, b) => a.seq! - b.seq!);
}

const roundedCase = (jobs: Case["jobs"]): unknown =>
  JSON.parse(JSON.stringify(jobs), (key, value) => (key === "percent" ? Math.round(value * 1e4) / 1e4 : value));

test("there are cases", () => {
  expect(cases.length).toBeGreaterThan(20);
});

describe.each(cases.map((one) => [one.name, one] as const))("%s", (_name, one) => {
  const live: Step[] = published(one).map((event) => ({ live: event }));

  test("on a page that was there", () => {
    expect(play(live)).toEqual(roundedCase(one.jobs));
  });

  test("without seq, too: then the rules alone decide", () => {
    const steps = published(one).map(({ seq: _, ...event }) => ({ live: event }));
    expect(play(steps)).toEqual(roundedCase(one.jobs));
  });

  test("on a page that opens now", () => {
    expect(play([{ replay: remembered(one), isWhole: true }])).toEqual(roundedCase(one.jobs));
  });
});
