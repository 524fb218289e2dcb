/** The types of the messages are those of the hook: one source, docs/messages.schema.json. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const text = (path: string): string => readFileSync(new URL(path, import.meta.url), "utf8");

test("src/messages.ts is what `npm run messages` in frontend/ writes for both packages", () => {
  expect(text("../src/messages.ts")).toBe(text("../../frontend/src/messages.ts"));
});
