/**
 * Inngest, version 3 of its SDK: the same middleware as `@progress-gateway/publisher/inngest`.
 *
 *     const inngest = new Inngest({ id: "studio", middleware: [progressMiddleware(publisher)] });
 */

import { END_EVENTS, REPORTER_ID, REPORTER_RETRIES, reportEnd } from "./inngest/ends.js";
import type { NamingOptions, TriggerEvent } from "./inngest/naming.js";
import { Place } from "./inngest/place.js";
import { Rerun } from "./inngest/rerun.js";
import type { RunJob } from "./inngest/run-job.js";
import { type MiddlewareOptions, Runs, type Session } from "./inngest/session.js";
import { isTargeted, watchSteps } from "./inngest/steps-v3.js";
import type { Publisher } from "./types.js";

export type { NamingOptions, TriggerEvent } from "./inngest/naming.js";
export type { RunJob, RunPart } from "./inngest/run-job.js";
export type { MiddlewareOptions } from "./inngest/session.js";

const DEFAULT_RETRIES = 3; // Inngest's default

// What the SDK hands to the hooks: as much of it as they read. Its own types would need version 3 to be installed here.
interface Input {
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's context, whose type depends on the client
  readonly ctx: any;
  readonly steps: readonly { readonly data?: unknown; readonly error?: unknown; readonly input?: unknown }[];
  // biome-ignore lint/suspicious/noExplicitAny: a function of the SDK
  readonly fn: any;
  readonly reqArgs: readonly unknown[];
}
interface Output {
  readonly result: { readonly data?: unknown; readonly error?: unknown };
  readonly step?: unknown;
}

/** An `InngestMiddleware` of the SDK, which adds `job` to the context of functions. */
export interface ProgressMiddleware {
  readonly [Symbol.toStringTag]: "Inngest.Middleware";
  readonly name: "progress-gateway";
  /** The options that it was made with. */
  readonly naming: NamingOptions;
  readonly init: () => {
    onFunctionRun: () => {
      transformInput: (input: Input) => Promise<{ ctx: { job: RunJob } }>;
      transformOutput: (output: Output) => Promise<void>;
      finished: (output: Output) => Promise<void>;
      beforeResponse: () => Promise<void>;
    };
  };
}

/** Return the middleware, for a client or for one function. A run whose event names no project is not tracked. */
export function progressMiddleware(publisher: Publisher, options: MiddlewareOptions = {}): ProgressMiddleware {
  const runs = new Runs(publisher, options);
  return {
    [Symbol.toStringTag]: "Inngest.Middleware",
    name: "progress-gateway",
    naming: options,
    init: () => ({ onFunctionRun: () => hooksOfRequest(runs) }),
  };
}

/** The hooks of one request. They never throw: a function must not fail because of its viewers. */
function hooksOfRequest(runs: Runs) {
  let session: Session | undefined;
  let place: Place | undefined;
  return {
    async transformInput({ ctx, steps, fn, reqArgs }: Input): Promise<{ ctx: { job: RunJob } }> {
      const done = steps.filter(({ input }) => input === undefined).length;
      const targeted = isTargeted(reqArgs);
      const rerun = new Rerun(done, targeted);
      const tries = ctx.maxAttempts ?? (fn?.opts?.retries ?? DEFAULT_RETRIES) + 1;
      place = new Place({ tryNumber: ctx.attempt, tries, stepsDone: done, isTargeted: targeted });
      session = await runs.open(ctx.event, ctx.runId, place, rerun);
      const watched = { job: session.run, step: watchSteps(ctx.step, rerun) };
      return { ctx: watched };
    },

    async transformOutput({ result, step }: Output): Promise<void> {
      if (result.error !== undefined && step !== undefined)
        await session?.stepFailed(result.error, isFinal(result.error, place));
    },

    /** The function returned or threw. The SDK calls `transformOutput` of steps, too, as if they were the function. */
    async finished({ result }: Output): Promise<void> {
      if (result.error !== undefined) await session?.failed(named(result.error), isFinal(result.error, place));
      else await session?.completed(result.data);
    },

    async beforeResponse(): Promise<void> {
      await session?.leave();
    },
  };
}

function isFinal(error: unknown, place: Place | undefined): boolean {
  const name = error instanceof Error ? error.name : undefined;
  // An error of a step that the function did not catch: its tries are used up, and the SDK makes no other one.
  const isOfStep = error instanceof Error && "stepId" in error;
  return place?.isLastTry === true || name === "NonRetriableError" || isOfStep;
}

/** The error of a step by its own name. The SDK makes it an `Error`, and only the stack still tells what it was. */
function named(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== "Error") return error;
  const name = /^([A-Z]\w*): /.exec(error.stack ?? "")?.[1];
  if (name === undefined || !error.stack?.startsWith(`${name}: ${error.message}`)) return error;
  return Object.assign(new Error(error.message), { name });
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
 * of its own, which triggers this function. Give it the options by which `progressMiddleware` names jobs, if it has any.
 */
// biome-ignore lint/suspicious/noExplicitAny: a client of the SDK, whose type depends on its events
export function endReporter(inngest: any, publisher: Publisher, options: EndReporterOptions = {}): any {
  const { id = REPORTER_ID, ...naming } = options;
  return inngest.createFunction(
    { id, retries: REPORTER_RETRIES },
    END_EVENTS.map((event) => ({ event })),
    async ({ event }: { event: TriggerEvent }) => reportEnd(publisher, naming, event),
  );
}
