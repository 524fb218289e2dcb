/** Writes gateway/static/dashboard.js, the script of the page `/`: `npm run dashboard`. Serving it needs no Node. */

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const PATH = fileURLToPath(new URL("../../gateway/static/dashboard.js", import.meta.url));
const ROOT = fileURLToPath(new URL("..", import.meta.url));

const banner = "/* Built from frontend/dashboard by `npm run dashboard`. Change it there. */";

/** The same text on every machine. */
export async function dashboard() {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: ["dashboard/main.ts"],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    tsconfigRaw: {}, // tsconfig.json is for the types
    banner: { js: banner },
    write: false,
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(PATH, await dashboard());
