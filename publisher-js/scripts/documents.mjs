/** Writes the TypeScript of the documents to build/documents/, so that `npm run types` checks it like any other. */

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const FOLDER = new URL("../build/documents/", import.meta.url);
const DOCUMENTS = ["README.md", "docs/publishing-ts.md"];
// What a reader's own program has.
const GIVEN = `declare function speak(voice: string): Promise<void>;
declare function render(scene: string): Promise<void>;
`;

await rm(FOLDER, { recursive: true, force: true });
await mkdir(FOLDER, { recursive: true });
await writeFile(new URL("given.d.ts", FOLDER), GIVEN);
for (const document of DOCUMENTS) {
  const text = await readFile(fileURLToPath(new URL(`../../${document}`, import.meta.url)), "utf8");
  for (const [index, [, block]] of [...text.matchAll(/^```ts\n(.*?)^```/gms)].entries()) {
    const name = document.replace(/\W/g, "-") + `-${index}.ts`;
    await writeFile(new URL(name, FOLDER), block.includes("import ") ? block : `${block}\nexport {};\n`);
    if (block.includes("export const publisher")) await writeFile(new URL("publisher.ts", FOLDER), block);
  }
}
