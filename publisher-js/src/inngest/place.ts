/** Where a request is in its run, and how the job of the run goes on from there. No I/O. */

import type { Data, RememberedEvent } from "../types.js";

/** What viewers read after a step failed that Inngest tries again. */
export const STEP_RETRY = "this step will be tried again";

/** How a request continues the job of its run. */
export interface Start {
  /** Whether the next attempt begins, which Redis numbers. */
  readonly begins: boolean;
  /** The attempt that it continues; events without a number are never refused. */
  readonly attempt?: number | undefined;
  readonly percent: number;
  readonly message?: string | undefined;
  readonly data?: Data | undefined;
  /** False if there is news to publish: the first try, or another one, begins. */
  readonly isTold: boolean;
  /** Whether a step is tried again: what the function says before it was said in its first try. */
  readonly isStepRetry?: boolean | undefined;
}

/** What is known of a job: its last event, as Redis has it or as this process remembers it. */
export interface Known {
  readonly type: RememberedEvent["type"];
  readonly attempt?: number | undefined;
  readonly progress?: number | undefined;
  readonly message?: string | undefined;
  readonly data?: Data | undefined;
}

/**
 * Where a request is in its run, as Inngest sees it.
 *
 * `tryNumber` (Inngest's `attempt`) counts the tries of the current step and begins anew with each step, so it cannot
 * number the attempts of the run. A run is one attempt over all its requests, and the retry of a step goes on in it: a
 * new attempt would drop what viewers see of the steps before. A retry of the whole function is the next attempt.
 */
export class Place {
  readonly tryNumber: number;
  readonly tries: number;
  readonly stepsDone: number;
  /** Whether the request asks for one step, which an earlier request has found. */
  readonly isTargeted: boolean;

  constructor(place: { tryNumber: number; tries: number; stepsDone: number; isTargeted: boolean }) {
    this.tryNumber = place.tryNumber;
    this.tries = place.tries;
    this.stepsDone = place.stepsDone;
    this.isTargeted = place.isTargeted;
  }

  get isFirst(): boolean {
    return this.stepsDone === 0 && this.tryNumber === 0 && !this.isTargeted;
  }

  /** Whether no try follows this one. */
  get isLastTry(): boolean {
    return this.tryNumber + 1 >= this.tries;
  }

  /** Without the job's last event, its attempt and its percents are not known. */
  get unknown(): Start {
    return { begins: this.isFirst, percent: 0, isTold: !this.isFirst };
  }

  /** Continue after the job's last event; null if it has none. */
  after(known: Known | null): Start {
    if (this.isFirst) return { begins: true, percent: 0, isTold: false }; // maybe after another run under the same id
    const attempt = known?.attempt;
    const isRunning = known?.type === "progress";
    const { progress: percent = 0, message, data } = isRunning ? known : {};
    if (this.tryNumber === 0) return { begins: false, attempt, percent, message, data, isTold: true };
    // A step that failed has announced its retry; a function that failed, or a try that was killed, has not.
    const isOfStep = this.isTargeted || message?.endsWith(STEP_RETRY) === true;
    const again = `trying again (${this.tryNumber + 1} of ${this.tries})`;
    const isTold = isOfStep && (message === again || !isRunning);
    const of = isOfStep ? { begins: false, attempt, isStepRetry: true } : { begins: true };
    return { ...of, percent, message: again, data, isTold };
  }
}
