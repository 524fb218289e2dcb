/** The names that publisher and gateway share: projects, Redis channels and keys. */

import { EventError } from "./errors.js";
import { sentence } from "./fields.js";

const PROJECT_ID = /^[A-Za-z0-9][A-Za-z0-9_\-.:]{0,127}$/;
export const PROJECT_ID_RULE = "1 to 128 characters of A-Z a-z 0-9 _ - . : that begin with a letter or digit";

/** Return a project id; throws `EventError` for anything else. */
export function checkProjectId(projectId: unknown): string {
  if (typeof projectId === "string" && PROJECT_ID.test(projectId)) return projectId;
  throw new EventError({ projectId: sentence(PROJECT_ID_RULE, projectId, formOf(projectId)) });
}

const formOf = (text: unknown): string => (text === "" ? "empty" : typeof text === "string" ? "of another form" : "");

/** Return a namespace: empty, or of the form of a project id and without the part `project`. */
export function checkNamespace(namespace: string): string {
  if (namespace && !PROJECT_ID.test(namespace)) {
    throw new EventError({ namespace: `is ${JSON.stringify(namespace)}; use ${PROJECT_ID_RULE}` });
  }
  // `project:project:x` would be project `x` in namespace `project`, and project `project:x` without a namespace.
  if (namespace.split(":").includes("project")) {
    const why = "its Redis channels could be those of another namespace; use one without the part 'project'";
    throw new EventError({ namespace: `is ${JSON.stringify(namespace)}: ${why}` });
  }
  return namespace;
}

/** The Redis channel of a project: `project:<id>`, or `<namespace>:project:<id>`. */
export const redisChannelOf = (projectId: string, namespace: string): string =>
  namespace ? `${namespace}:project:${projectId}` : `project:${projectId}`;

/** The key of what is remembered of a project; its hash tag keeps it in the Redis channel's Cluster slot. */
export const jobsKey = (redisChannel: string): string => `{${redisChannel}}:jobs`;

/** The field of a job, or of a sentence of it, in the hash at `jobsKey`. No id contains a line feed. */
export const jobField = (jobId: string, sentenceId: string | undefined): string => `${jobId}\n${sentenceId ?? ""}`;
