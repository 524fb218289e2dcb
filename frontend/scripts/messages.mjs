/** Writes src/messages.ts, here and in publisher-js/: the types of the messages, from the gateway's own models. */

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

export const PATH = fileURLToPath(new URL("../src/messages.ts", import.meta.url));
const PUBLISHER_PATH = fileURLToPath(new URL("../../publisher-js/src/messages.ts", import.meta.url));
const SCHEMA = new URL("../../docs/messages.schema.json", import.meta.url);

const banner = `/**
 * The messages of \`/ws\`. Made by \`npm run messages\` from docs/messages.schema.json, which is made from the gateway's
 * own models; tests hold both to be current.
 */
`;

/** A type of its own, so that editors complete the well-known types although any text passes. */
const jobType = `/** The kind of a job. Any text of 1 to 64 characters passes; pages know icons for the well-known ones. */
export type JobType = "script" | "audio" | "image" | "video" | "export" | (string & {});

/** An event of a job. */
export type EventMessage = ProgressMessage | JobCompleteMessage | JobFailedMessage;

`;

/** The schema in the words of json-schema-to-typescript, which knows an earlier draft. */
function asEarlierDraft(_key, value) {
  if (typeof value !== "object" || value === null) return value;
  const { prefixItems, $ref, ...rest } = value;
  if (prefixItems) return { ...rest, items: prefixItems };
  // A description right beside a reference would make a second type of the same form.
  return $ref && rest.description ? { ...rest, allOf: [{ $ref }] } : value;
}

export async function messageTypes() {
  const { title: _, ...schema } = JSON.parse(await readFile(SCHEMA, "utf8"), asEarlierDraft);
  const text = await compile(schema, "Root", {
    bannerComment: banner,
    additionalProperties: false,
    unreachableDefinitions: true,
    style: { printWidth: 120 },
  });
  return text
    .replace(/( \*\n)? \* This interface was referenced by [^\n]*\n \* via the [^\n]*\n/g, "")
    .replace(/\/\*\*\n \*\/\n/g, "")
    .replace(/( *\*\n)? *\* @(min|max)Items \d+\n/g, "")
    .replace(/\/\*\*\n *\* ([^\n]*)\n *\*\//g, "/** $1 */")
    .replace(/export interface Root {[^}]*}\n/, "")
    .replace(/ jobType: string;/g, " jobType: JobType;")
    .replace(/ data\?: {\n *\[k: string\]: unknown;\n *};/g, " data?: Record<string, unknown>;")
    .replace("export type ClientMessage", `${jobType}export type ClientMessage`)
    .replace(/([;}])\n(\/\*\*|export)/g, "$1\n\n$2");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const path of [PATH, PUBLISHER_PATH]) await writeFile(path, await messageTypes());
}
