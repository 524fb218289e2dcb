/** Which project, job and type a job of BullMQ has. */

import type { JobType } from "../types.js";

/** A job of BullMQ: as much of it as is read here. */
export interface QueuedJob {
  readonly id?: string | undefined;
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the author's own
  readonly data: any;
  readonly queueName: string;
  readonly finishedOn?: number | undefined;
}

/** Where the names of a job come from, if not from its data. */
export interface NamingOptions {
  /** A project for all jobs, or of one job; without one it is not tracked. Default: `projectId` in the job's data. */
  projectId?: string | ((job: QueuedJob) => string | null | undefined) | undefined;
  /** Default: the queue's name and BullMQ's id, `videos:7`; BullMQ counts from 1 in each queue. */
  jobId?: ((job: QueuedJob) => string) | undefined;
  /** Default: `jobType` in the job's data, or else the job's name. */
  jobType?: JobType | ((job: QueuedJob) => JobType) | undefined;
}

/** The ids and the type of a job. */
export interface Identity {
  readonly projectId: string;
  readonly jobId: string;
  readonly jobType: JobType;
}

/** How viewers know a job; null for one without a project. What the options name is checked by the publisher. */
export function identityOf(options: NamingOptions, job: QueuedJob): Identity | null {
  const { projectId: project, jobType: type } = options;
  const projectId = typeof project === "function" ? project(job) : (project ?? job.data?.projectId);
  if (projectId === undefined || projectId === null) return null;
  return {
    projectId,
    jobId: options.jobId?.(job) ?? `${job.queueName}:${job.id}`,
    jobType: (typeof type === "function" ? type(job) : type) ?? job.data?.jobType ?? typeOf(job.name),
  };
}

/** A job type made of a name: other characters than its own become `_`, and it begins with a letter. */
function typeOf(name: string): JobType {
  return (
    name
      .replace(/[^A-Za-z0-9_\-.:]/g, "_")
      .replace(/^[^A-Za-z]+/, "")
      .slice(0, 64) || "job"
  );
}
