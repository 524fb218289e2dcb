/** Lets the example find the package beside it, from its source; in an app of yours nothing of this is needed. */

import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  resolve: { alias: { "@progress-gateway/react": fileURLToPath(new URL("../../src/index.ts", import.meta.url)) } },
  server: { host: "127.0.0.1", port: 5173 },
});
