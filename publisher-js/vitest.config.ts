import { defineConfig } from "vitest/config";

// Real Redis servers and gateways: the bound ends a test that hangs; it does not judge how fast the machine is.
export default defineConfig({
  test: { include: ["tests/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000, restoreMocks: true },
});
