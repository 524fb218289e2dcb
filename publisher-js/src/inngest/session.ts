/** One request of a run: begins its job or goes on with it, and tells what became of it. Never throws. */

import { describe, retryText } from "../failure.js";
import type { CompleteOptions, Job, Logger, Publisher } from "../types.js";
import { type Identity, identityOf, type NamingOptions, type TriggerEvent } from "./naming.js";
import { type Known, type Place, STEP_RETRY, type Start } from "./place.js";
import type { Rerun } from "./rerun.js";
import { TrackedRun } from "./run-job.js";

/** The events by which Inngest tells of the end of a run. `step.invoke` sends another: `inngest/function.invoked`. */
const ENDS = new Set(["inngest/function.failed", "inngest/function.cancelled", "inngest/function.finished"]);
const MOST_REMEMBERED = 1_000;

/** The options of `progressMiddleware`. */
export interface MiddlewareOptions extends NamingOptions {
  /** Seconds without news, in a long step, after which the last progress is sent again; null for never. Default: 15. */
  heartbeat?: number | null | undefined;
  /** Where log lines go. Default: `console`. */
  logger?: Logger | undefined;
}

/** What the runs of a client share. Lives as long as its middleware. */
export class Runs {
  readonly #publisher: Publisher;
  readonly #options: MiddlewareOptions;
  readonly #logger: Logger;
  /** What was said last of runs that go on, oldest first: by HTTP nothing can be asked. */
  readonly #remembered = new Map<string, Known>();

  constructor(publisher: Publisher, options: MiddlewareOptions) {
    this.#publisher = publisher;
    this.#options = options;
    this.#logger = options.logger ?? console;
  }

  /** Begin the job of a run, or go on with it. */
  async open(event: TriggerEvent, runId: string, place: Place, rerun: Rerun): Promise<Session> {
    const words = { percent: 0, message: undefined, data: undefined };
    const identity = this.#identity(event, runId);
    if (identity === null) return new Session(this, null, new TrackedRun(null, rerun, words), place);
    const start = await this.#start(identity, place);
    if (start.isStepRetry) rerun.onStepRetry();
    try {
      const job = this.#job(identity, start);
      const { percent, message, data } = start;
      return new Session(this, job, new TrackedRun(job, rerun, { percent, message, data }), place);
    } catch (error) {
      this.warn(`Run ${runId} is not tracked: ${describe(error)}`);
      return new Session(this, null, new TrackedRun(null, rerun, words), place);
    }
  }

  #identity(event: TriggerEvent, runId: string): Identity | null {
    if (ENDS.has(event.name)) return null; // a failure handler or the end reporter: runs of their own
    try {
      return identityOf(this.#options, event, runId);
    } catch (error) {
      this.warn(`Run ${runId} is not tracked: ${describe(error)}`);
      return null;
    }
  }

  async #start(identity: Identity, place: Place): Promise<Start> {
    const key = keyOf(identity);
    if (place.isFirst) return place.after(null);
    try {
      return place.after(await this.#publisher.lastEvent(identity.projectId, identity.jobId));
    } catch {
      const known = this.#remembered.get(key); // Redis does not answer, or the way is HTTP
      return known === undefined ? place.unknown : place.after(known);
    }
  }

  #job({ projectId, jobId, jobType }: Identity, start: Start): Job {
    const { begins, attempt, percent, message, data, isTold } = start;
    const job = this.#publisher.trackJob(projectId, jobId, jobType, {
      heartbeat: this.#options.heartbeat,
      promisesAtOnce: false, // Inngest finds dead workers itself; so only heartbeats promise, that is only long steps
      endsAtExit: false, // Inngest runs the request again, maybe in another process
      resume: begins ? undefined : { attempt, percent, message, data, isTold },
    });
    // Said in one step with the begin, so it is the attempt's first event: viewers do not see the bar at 0 between.
    if (begins && message !== undefined) job.progress(percent, message, { data });
    return job;
  }

  /** Remember what was said of a job, for the next request; nothing of one that ended. */
  remember(job: Job, known: Known | null): void {
    const key = keyOf(job);
    this.#remembered.delete(key);
    if (known !== null) this.#remembered.set(key, known);
    if (this.#remembered.size > MOST_REMEMBERED) {
      this.#remembered.delete(this.#remembered.keys().next().value as string);
    }
  }

  warn(message: string): void {
    this.#logger.warn(message);
  }
}

function keyOf({ projectId, jobId }: { projectId: string; jobId: string }): string {
  return `${projectId}\n${jobId}`;
}

/** The job of one request. Its methods never reject: a function must not fail because its viewers cannot be reached. */
export class Session {
  readonly run: TrackedRun;
  readonly #runs: Runs;
  readonly #job: Job | null;
  readonly #place: Place;

  constructor(runs: Runs, job: Job | null, run: TrackedRun, place: Place) {
    this.#runs = runs;
    this.#job = job;
    this.run = run;
    this.#place = place;
  }

  /** A step failed. After its last try, Inngest calls the function once more: it may go on without the step. */
  stepFailed(error: unknown, isFinal: boolean): Promise<void> {
    const text = describe(error);
    return this.leave(isFinal ? text : retryText(text, STEP_RETRY));
  }

  /** The function threw. */
  failed(error: unknown, isFinal: boolean): Promise<void> {
    if (!isFinal) return this.leave(retryText(describe(error)));
    return this.#end((job) =>
      job.fail(error instanceof Error && error.name === "NonRetriableError" ? error.message || error : error),
    );
  }

  /** The function returned. */
  completed(output: unknown): Promise<void> {
    const result = this.run.result ?? resultOf(output);
    return this.#end(async (job) => {
      try {
        return await job.complete(result);
      } catch (error) {
        this.#runs.warn(`The result of job ${job.jobId} does not fit and is left out: ${describe(error)}`);
        return await job.complete();
      }
    });
  }

  /** What it returned cannot be sent as JSON: the SDK finds that after the function has returned. */
  notJson(): Promise<void> {
    return this.failed(new TypeError("what it returned cannot be sent as JSON"), this.#place.isLastTry);
  }

  /** The request is answered, and the job rests until Inngest's next one: take back the promise, and say `message`. */
  async leave(message?: string): Promise<void> {
    if (this.#job === null || this.#job.isEnded) return;
    try {
      const { percent, message: last, data } = this.run.lastWords;
      const known = {
        type: "progress" as const,
        progress: Math.max(percent, this.#job.percent),
        message: message ?? last,
        data,
      };
      await this.#job.leave(message);
      this.#runs.remember(this.#job, { ...known, attempt: this.#job.attempt });
    } catch (error) {
      this.#runs.warn(`The pause of job ${this.#job.jobId} was not sent: ${describe(error)}`);
    }
  }

  async #end(end: (job: Job) => Promise<unknown>): Promise<void> {
    if (this.#job === null || this.#job.isEnded) return;
    try {
      await end(this.#job);
      this.#runs.remember(this.#job, null);
    } catch (error) {
      this.#runs.warn(`The end of job ${this.#job.jobId} was not sent: ${describe(error)}`);
    }
  }
}

/** `file` and `duration` of what a function returned; nothing if they are no such fields. */
function resultOf(output: unknown): CompleteOptions {
  if (typeof output !== "object" || output === null) return {};
  const { file, duration } = output as Record<string, unknown>;
  return {
    file: typeof file === "string" ? file : undefined,
    duration: typeof duration === "number" ? duration : undefined,
  };
}
