/**
 * Plays events on the core: `node scripts/play.mjs`. tests/test_hook_rules.py compares the outcome with the rules in
 * Python. Each line of the input is a list of steps in JSON; each line of the output the state of the jobs after them,
 * in the words of tests/cases/. A step is `{"live": event}` or `{"replay": [event, ...], "isWhole": true}`.
 */

import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("../tests/play.ts", import.meta.url))],
  bundle: true,
  format: "esm",
  tsconfigRaw: {}, // tsconfig.json is for the types
  write: false,
});
const { play } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(play(JSON.parse(line))));
}
