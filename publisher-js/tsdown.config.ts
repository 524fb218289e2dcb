import { defineConfig } from "tsdown";
import { lua } from "./scripts/lua.mjs";

export default defineConfig({
  entry: ["src/index.ts", "src/inngest.ts", "src/inngest-v3.ts", "src/bullmq.ts"],
  format: ["esm", "cjs"],
  fixedExtension: false,
  platform: "node",
  target: "es2022",
  dts: true,
  sourcemap: true,
  clean: true,
  plugins: [lua],
  inputOptions: { checks: { pluginTimings: false } }, // the types take most of the time, which is no news
});
