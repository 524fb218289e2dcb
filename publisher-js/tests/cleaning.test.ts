/** What is cleaned instead of refused, and the form in which an event leaves. */

import { expect, test } from "vitest";
import { checkEvent, eventToJson } from "../src/events.js";
import { publicationOf, scriptArguments, sentOf } from "../src/publication.js";

const progress = { type: "progress", jobId: "j", jobType: "audio", progress: 40 };
const json = (event: unknown): unknown => JSON.parse(eventToJson(checkEvent(event)));

test.each([
  ["a\tb\u202ec\x00d\r\n e", "a bcd  e"],
  ["\ud800x", "?x"],
  ["a\u2028b", "a b"],
  ["x".repeat(2_001), "x".repeat(2_000)],
  ["💩".repeat(2_001), "💩".repeat(2_000)],
])("the text %j", (given, sent) => {
  expect(json({ ...progress, message: given })).toMatchObject({ message: sent });
  expect(json({ type: "job_failed", jobId: "j", jobType: "a", error: given })).toMatchObject({ error: sent });
});

test("the name of a file loses its control characters, and is never cut", () => {
  const event = { type: "job_complete", jobId: "j", jobType: "a", result: { file: "a\x00b\u202e", x: 1 } };
  expect(json(event)).toEqual({ type: "job_complete", jobId: "j", jobType: "a", result: { file: "ab" } });
});

test("unknown fields are dropped, and null is absent", () => {
  expect(json({ ...progress, x: 1, seq: 5, projectId: "p", message: null, attempt: null })).toEqual(progress);
});

test("data are copied, without what is undefined", () => {
  const data = { a: 1, b: undefined, c: [{ d: null }] };
  const event = checkEvent({ ...progress, data });
  data.a = 2;
  expect(event.data).toEqual({ a: 1, c: [{ d: null }] });
});

test("the fields leave in the order by which publish.lua reads at a glance", () => {
  const event = {
    progress: 4.5,
    message: "m",
    attempt: 3,
    sentenceId: "s",
    jobType: "a",
    jobId: "j",
    type: "progress",
  };
  expect(eventToJson(checkEvent(event))).toBe(
    '{"type":"progress","jobId":"j","jobType":"a","sentenceId":"s","attempt":3,"progress":4.5,"message":"m"}',
  );
});

test("the arguments of the script", () => {
  const publication = publicationOf("p", { ...progress, progress: -0, attempt: "next" }, "staging", 4);
  expect(scriptArguments(publication, "PUBLISH")).toEqual([
    "1",
    "{staging:project:p}:jobs",
    "staging:project:p",
    '{"type":"progress","jobId":"j","jobType":"audio","attempt":"next","progress":0}',
    "j\n",
    "+4",
    "0",
    "1000:10000:8388608",
    "3600",
    "PUBLISH",
  ]);
});

test.each([
  [1764021600000001, { seq: 1764021600000001 }],
  ["1764021600000001", { seq: 1764021600000001 }],
  [null, { seq: null }],
  [[5, 3], { seq: 5, attempt: 3 }],
  [[0, 3], { seq: null, replacedBy: 3 }],
  [[5, -1, "OOM full"], { seq: 5, unremembered: "OOM full" }],
])("the answer %j", (answer, sent) => {
  expect(sentOf(answer)).toEqual(sent);
});

test.each(["OK", {}, [{}], ["x", 1], 1.5])("no answer of the script: %j", (answer) => {
  expect(() => sentOf(answer)).toThrow(TypeError);
});
