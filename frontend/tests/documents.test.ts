// @vitest-environment node

import { readdir, readFile } from "node:fs/promises";
import { expect, test } from "vitest";

const ROOT = new URL("../", import.meta.url);
const text = (path: string): Promise<string> => readFile(new URL(path, ROOT), "utf8");

test("the page in docs/hook.md is the one that `make example` shows", async () => {
  const [, shown] = /<!-- example: .*-->\n```tsx\n([\s\S]*?)```/.exec(await text("../docs/hook.md"))!;
  expect(shown).toBe(await text("examples/page/main.tsx"));
});

test("each test that docs/hook.md names is there", async () => {
  const named = [...(await text("../docs/hook.md")).matchAll(/\| yes[^|]*: `([^`]+)` \|/g)].map(([, name]) => name!);
  expect(named.length).toBeGreaterThan(15);
  const files = (await Promise.all(["tests", "e2e"].map((folder) => readdir(new URL(folder, ROOT)))))
    .flatMap((names, index) => names.map((name) => `${["tests", "e2e"][index]}/${name}`))
    .filter((name) => /\.test\.tsx?$/.test(name));
  const source = (await Promise.all(files.map(text))).join("\n");
  expect(named.filter((name) => !source.includes(`("${name}"`))).toEqual([]);
});

test("the core imports no React, and no other package", async () => {
  const imports = new Set(["./core.js"]);
  for (const name of imports) {
    const source = await text(`src/${name.replace(/^\.\//, "").replace(/\.js$/, ".ts")}`);
    for (const [, imported] of source.matchAll(/from "([^"]+)"/g)) imports.add(imported!);
  }
  expect([...imports].filter((name) => !name.startsWith("./"))).toEqual([]);
  expect(imports.size).toBeGreaterThan(8);
});
