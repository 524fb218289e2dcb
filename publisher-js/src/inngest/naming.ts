/** Which project, job and type a run has. */

import type { JobType } from "../types.js";

/** The event that triggered a run: as much of it as the middleware reads. */
export interface TriggerEvent {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the author's own
  readonly data?: any;
}

/** Where the names of a job come from, if not from the event's data. */
export interface NamingOptions {
  /** A project for all runs, or of one event; without one the run is not tracked. Default: `projectId` in its data. */
  projectId?: string | ((event: TriggerEvent) => string | null | undefined) | undefined;
  /** Default: the run's id. */
  jobId?: ((event: TriggerEvent, runId: string) => string) | undefined;
  /** Default: `jobType` in the event's data. */
  jobType?: JobType | ((event: TriggerEvent) => JobType) | undefined;
}

/** The ids and the type of a job. */
export interface Identity {
  readonly projectId: string;
  readonly jobId: string;
  readonly jobType: JobType;
}

/** The job of a run; null for an event without a project. What the options name is checked by the publisher. */
export function identityOf(options: NamingOptions, event: TriggerEvent, runId: string): Identity | null {
  const projectId = chosen(options.projectId, event, "projectId");
  if (projectId === undefined || projectId === null) return null;
  return {
    projectId: projectId as string,
    jobId: options.jobId?.(event, runId) ?? runId,
    jobType: chosen(options.jobType, event, "jobType") as JobType,
  };
}

function chosen(given: unknown, event: TriggerEvent, field: string): unknown {
  if (typeof given === "function") return given(event);
  return given ?? event.data?.[field];
}
