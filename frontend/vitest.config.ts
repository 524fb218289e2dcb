import { defineConfig } from "vitest/config";

// These count what is left of the page, look at modules that nothing else has used, or leave a dashboard that reconnects.
const alone = ["dashboard-*", "hook-mount", "server", "strict", "weather"].map((name) => `tests/${name}.test.{ts,tsx}`);
// Their time is simulated. The bound ends a test that hangs; it does not judge how fast the machine is.
const unit = { environment: "happy-dom", restoreMocks: true, testTimeout: 120_000 };

export default defineConfig({
  test: {
    projects: [
      // One page for all of these: to make one for each file took two thirds of the time.
      { test: { ...unit, name: "unit", include: ["tests/**/*.test.{ts,tsx}"], exclude: alone, isolate: false } },
      { test: { ...unit, name: "alone", include: alone } },
      {
        // A real browser and a real gateway: one file after the other, on a machine of any size.
        test: {
          name: "browser",
          include: ["e2e/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
