import { defineConfig } from "tsdown";
import { shortNames } from "./scripts/short-names.mjs";

export default defineConfig({
  entry: ["src/index.ts", "src/hooks.tsx", "src/core.ts", "src/testing.ts"],
  format: ["esm", "cjs"],
  fixedExtension: false,
  platform: "neutral",
  target: "es2022",
  unbundle: true, // so that "use client" stays in the one file that it is about
  dts: true,
  sourcemap: true,
  clean: true,
  plugins: [shortNames],
});
