/** Each module imports only what stands below it: docs/design.md has the list. */

import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const SOURCES = new URL("../src/", import.meta.url);
const text = (path: URL): string => readFileSync(path, "utf8");

const section = text(new URL("../../docs/design.md", import.meta.url)).split("## Jobs in TypeScript")[1] ?? "";
const layers = (/```text\n(.*?)```/s.exec(section)?.[1] ?? "")
  .trim()
  .split("\n")
  .map((line) => (line.split(/ {2,}/)[0] ?? "").split(" · "));
const layerOf = (name: string): number => layers.findIndex((layer) => layer.includes(name));

const isOfIntegration = (name: string): boolean => /^(inngest|bullmq)/.test(name);
const modules = readdirSync(SOURCES)
  .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"))
  .map((file) => file.slice(0, -3))
  .filter((name) => !isOfIntegration(name));

test.each(modules)("%s", (name) => {
  expect(layerOf(name), "it stands in no layer").toBeGreaterThanOrEqual(0);
  const imports = [...text(new URL(`${name}.ts`, SOURCES)).matchAll(/from "\.\/([\w-]+)\.js"/g)].map(([, one]) => one!);
  for (const other of imports) expect(layerOf(other), `${name} imports ${other}`).toBeGreaterThan(layerOf(name));
});

test("no module needs a package at run time", () => {
  for (const name of modules) {
    const packages = [...text(new URL(`${name}.ts`, SOURCES)).matchAll(/from "([^."][^"]*)"/g)].map(([, one]) => one!);
    expect(packages.filter((one) => !one.startsWith("node:"))).toEqual([]);
  }
});
