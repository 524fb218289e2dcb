/** What both major versions of Inngest's SDK have in common, for tests that run with each. */

import type { Publisher } from "../../src/index.js";
import type { EndReporterOptions, MiddlewareOptions, RunJob } from "../../src/inngest.js";
import type { Handler } from "./executor.js";

/** What the functions of these tests use of their context. */
export interface Context {
  job: RunJob;
  attempt: number;
  step: {
    // biome-ignore lint/suspicious/noExplicitAny: the result of the work
    run(id: string, work: () => any): Promise<any>;
    sleep(id: string, ms: number): Promise<void>;
    // biome-ignore lint/suspicious/noExplicitAny: a function of the SDK
    invoke(id: string, options: { function: any; data: unknown }): Promise<any>;
  };
}

type Work = (context: Context) => Promise<unknown>;

export interface App {
  // biome-ignore lint/suspicious/noExplicitAny: a function of the SDK
  create(id: string, work: Work, options?: { retries?: number; onFailure?: (context: any) => Promise<void> }): any;
  reporter(options?: EndReporterOptions): unknown;
  /** A served app of these functions: takes requests of Inngest's. */
  // biome-ignore lint/suspicious/noExplicitAny: functions of the SDK
  serve(...functions: any[]): Handler;
}

export interface Sdk {
  app(publisher: Publisher, options?: MiddlewareOptions): App;
}

export const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
