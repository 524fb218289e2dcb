/**
 * Inngest, version 4 of its SDK: a middleware that publishes the progress of functions. For version 3 there is
 * `@progress-gateway/publisher/inngest/v3`.
 *
 *     const inngest = new Inngest({ id: "studio", middleware: [progressMiddleware(publisher)] });
 *
 *     const makeVideo = inngest.createFunction({ id: "make-video", triggers: [{ event: "video/make" }] }, async ({ job, step }) => {
 *       const text = await step.run("write", write);
 *       job.progress(30, "script written");
 *       return { file: await step.run("render", () => render(text)) };
 *     });
 *
 * The event has `projectId` and `jobType` in its data, and the job's id is the run's. The middleware sends
 * `job_complete` when the function returns, and `job_failed` when no try is left. Inngest calls a function again from
 * the top for each step; what was said before is not said again.
 */

import type { Inngest, Middleware } from "inngest";
import { END_EVENTS, REPORTER_ID, REPORTER_RETRIES, reportEnd } from "./inngest/ends.js";
import type { NamingOptions, TriggerEvent } from "./inngest/naming.js";
import { Place } from "./inngest/place.js";
import { Rerun } from "./inngest/rerun.js";
import type { RunJob } from "./inngest/run-job.js";
import { type MiddlewareOptions, Runs, type Session } from "./inngest/session.js";
import type { Publisher } from "./types.js";

export type { NamingOptions, TriggerEvent } from "./inngest/naming.js";
export type { RunJob, RunPart } from "./inngest/run-job.js";
export type { MiddlewareOptions } from "./inngest/session.js";

const DEFAULT_RETRIES = 3; // Inngest's default
const DONE = 200;
const GOES_ON = 206;

type Input = Middleware.TransformFunctionInputArgs;
type InputWithJob = Input & { ctx: Input["ctx"] & { job: RunJob } };

/**
 * A class that Inngest makes an instance of for each request; it adds `job` to the context of functions.
 *
 * The hook returns a promise, which the SDK awaits; but only from the type without one does it infer the context.
 */
export type ProgressMiddleware = (new (args: {
  client: Inngest.Any;
}) => Middleware.BaseMiddleware & { transformFunctionInput(args: Input): InputWithJob }) & {
  /** The options that it was made with. */
  readonly naming: NamingOptions;
};

/** Return the middleware, for a client or for one function. A run whose event names no project is not tracked. */
export function progressMiddleware(publisher: Publisher, options: MiddlewareOptions = {}): ProgressMiddleware {
  const runs = new Runs(publisher, options);

  class ForRequest extends RequestMiddleware {
    static readonly naming: NamingOptions = options;
    protected readonly runs = runs;
  }

  // The SDK's base class brings nothing but its type, and importing it would load the whole SDK.
  return ForRequest as unknown as ProgressMiddleware;
}

/** The middleware of one request. Its hooks never throw: a function must not fail because of its viewers. */
abstract class RequestMiddleware {
  readonly id = "progress-gateway";
  protected abstract readonly runs: Runs;
  readonly client: Inngest.Any;
  #session: Session | undefined;
  #rerun = new Rerun(0, false);
  /** Whether the request asks for one step; undefined in `@inngest/test`, which makes no requests. */
  #isTargeted: boolean | undefined;
  #returned: { output: unknown } | undefined;

  constructor({ client }: { client: Inngest.Any }) {
    this.client = client;
  }

  async wrapRequest({ next, requestInfo }: Middleware.WrapRequestArgs): Promise<Middleware.Response> {
    const stepId = requestInfo.url.searchParams.get("stepId");
    this.#isTargeted = stepId !== null && stepId !== "" && stepId !== "step";
    try {
      const response = await next();
      await this.#answered(response);
      return response;
    } finally {
      await this.#session?.leave();
    }
  }

  /** Only the answer tells whether the run is complete: a function may return with steps that are still to be run. */
  async #answered({ status, body }: Middleware.Response): Promise<void> {
    if (this.#returned === undefined) return;
    if (status === DONE || (status === GOES_ON && body.includes('"op":"RunComplete"'))) {
      await this.#session?.completed(this.#returned.output);
    } else if (status !== GOES_ON) {
      await this.#session?.notJson();
    }
  }

  async transformFunctionInput(args: Input): Promise<InputWithJob> {
    const { ctx, fn, steps } = args;
    const done = Object.values(steps).filter(({ type }) => type !== "input").length;
    const isTargeted = this.#isTargeted ?? false;
    this.#rerun = new Rerun(done, isTargeted);
    const retries = (fn as { opts?: { retries?: number } }).opts?.retries ?? DEFAULT_RETRIES;
    const tries = ctx.maxAttempts ?? retries + 1;
    const place = new Place({ tryNumber: ctx.attempt, tries, stepsDone: done, isTargeted });
    this.#session = await this.runs.open(ctx.event as TriggerEvent, ctx.runId, place, this.#rerun);
    return { ...args, ctx: { ...ctx, job: this.#session.run } };
  }

  async wrapStep({ next, stepInfo }: Middleware.WrapStepArgs): Promise<unknown> {
    try {
      return await next();
    } finally {
      if (stepInfo.memoized) this.#rerun.onRead();
    }
  }

  wrapStepHandler({ next }: Middleware.WrapStepHandlerArgs): Promise<unknown> {
    return this.#rerun.inStep(next);
  }

  async onStepError({ error, isFinalAttempt }: Middleware.OnStepErrorArgs): Promise<void> {
    await this.#session?.stepFailed(error, isFinalAttempt);
  }

  async onStepComplete(): Promise<void> {
    if (this.#isTargeted === undefined) await this.#session?.leave();
  }

  async onRunError({ error, isFinalAttempt }: Middleware.OnRunErrorArgs): Promise<void> {
    await this.#session?.failed(error, isFinalAttempt);
  }

  async onRunComplete({ output }: Middleware.OnRunCompleteArgs): Promise<void> {
    this.#returned = { output };
    if (this.#isTargeted === undefined) await this.#session?.completed(output);
  }
}

/** The options of `endReporter`. */
export interface EndReporterOptions extends NamingOptions {
  /** The id of the function. Default: `progress-end-reporter`. */
  id?: string | undefined;
}

/**
 * Return a function, to serve beside yours, that publishes the ends that no middleware sees.
 *
 * A run that is cancelled, or whose worker is killed in its last try, calls no middleware. Inngest then sends an event
 * of its own, which triggers this function. It names jobs as the client's middleware does; options are needed only
 * where the middleware is a function's: give the same ones.
 */
export function endReporter(inngest: Inngest.Any, publisher: Publisher, options: EndReporterOptions = {}) {
  const { id = REPORTER_ID, ...given } = options;
  const naming = Object.keys(given).length > 0 ? given : namingOf(inngest);
  return inngest.createFunction(
    { id, retries: REPORTER_RETRIES, triggers: END_EVENTS.map((event) => ({ event })) },
    async ({ event }) => reportEnd(publisher, naming, event as TriggerEvent),
  );
}

/** The options of the client's middleware; the defaults if it has none. */
function namingOf(inngest: Inngest.Any): NamingOptions {
  const classes = (inngest as { middleware?: readonly Partial<ProgressMiddleware>[] }).middleware ?? [];
  return classes.find(({ naming }) => naming !== undefined)?.naming ?? {};
}
