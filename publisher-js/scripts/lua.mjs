/** Lets a module import a `.lua` file as its text. So the script stands once, in the Python package. For tsdown and vitest. */

import { readFile } from "node:fs/promises";

export const lua = {
  name: "lua",
  async load(id) {
    if (!id.endsWith(".lua")) return null;
    return { code: `export default ${JSON.stringify(await readFile(id, "utf8"))};`, map: null, moduleType: "js" };
  },
};
