import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.tsx", "src/core.ts", "src/testing.ts"],
  format: ["esm", "cjs"],
  fixedExtension: false,
  platform: "neutral",
  target: "es2022",
  dts: true,
  sourcemap: true,
  clean: true,
});
