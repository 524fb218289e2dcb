/** The browser test of examples/nextjs, apart from the others: an app of Next.js takes half a minute to build. */

import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["e2e/next.browser.ts"], testTimeout: 120_000, hookTimeout: 120_000 } });
