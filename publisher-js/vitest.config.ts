import { defineConfig } from "vitest/config";

import { lua } from "./scripts/lua.mjs";

// Real Redis servers and gateways: the bound ends a test that hangs; it does not judge how fast the machine is.
export default defineConfig({
  plugins: [lua],
  test: { include: ["tests/**/*.test.ts"], testTimeout: 120_000, hookTimeout: 60_000, restoreMocks: true },
});
