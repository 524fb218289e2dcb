import { fileURLToPath } from "node:url";
import type { NextConfig } from "next";

export default {
  // They use sockets and Lua files: loaded by Node as they are, and not bundled.
  serverExternalPackages: ["@progress-gateway/publisher", "bullmq", "ioredis"],
  turbopack: { root: fileURLToPath(new URL(".", import.meta.url)) },
} satisfies NextConfig;
