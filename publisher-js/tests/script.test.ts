/** publish.lua stands once, in the Python package; this package carries its bytes. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { SCRIPT } from "../src/redis.js";

const original = readFileSync(new URL("../../publisher/publish.lua", import.meta.url), "utf8");

test("the sources import the script of the Python package", () => {
  expect(SCRIPT).toBe(original);
});

test.each(["index.js", "index.cjs"])("dist/%s, as `npm run build` makes it, holds the same bytes", (name) => {
  const built = readFileSync(new URL(`../dist/${name}`, import.meta.url), "utf8");
  const literal = /"-- Publishes one event of a job(?:[^"\\]|\\.)*"/.exec(built)?.[0];
  expect(JSON.parse(literal ?? "null")).toBe(original);
});
