// @vitest-environment node

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { messageTypes, PATH } from "../scripts/messages.mjs";

test("the types of the messages are those of the gateway's own models: made anew by `npm run messages`", async () => {
  expect(await readFile(PATH, "utf8")).toBe(await messageTypes());
});
