/** Ends the open jobs of a process that stops: by a signal, by an error that nobody caught, or with nothing left to do. */

import { constants } from "node:os";
import { INTERRUPTED, WORKER_ENDED } from "./failure.js";
import type { TrackedJob } from "./job.js";

const EXIT_MS = 2_000; // for what is unsent
const FIRST_PROCESS = 1; // of a container: the kernel drops the signals that it does not handle
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

// Marks our handlers, also those of another copy of this package: they are not a program's own.
const OURS = Symbol.for("@progress-gateway/publisher");

// biome-ignore lint/suspicious/noExplicitAny: a listener of any event
type Listener = (...given: any[]) => void;

const isOurs = (listener: object): boolean => OURS in listener;
const listenersOf = (event: string): Listener[] => process.listeners(event as "SIGTERM") as Listener[];

/** One per publisher; its handlers stand from the first job until `close`. */
export class Stopping {
  readonly #jobs = new Set<TrackedJob>();
  readonly #flush: (ms: number) => Promise<void>;
  readonly #currentJob: () => TrackedJob | undefined;
  readonly #isOn: boolean;
  readonly #handlers: (readonly [event: string, listener: Listener])[];
  #isSet = false;

  constructor(isOn: boolean, currentJob: () => TrackedJob | undefined, flush: (ms: number) => Promise<void>) {
    this.#isOn = isOn;
    this.#currentJob = currentJob;
    this.#flush = flush;
    this.#handlers = [
      ["beforeExit", ours(() => void this.#onIdle())],
      ...SIGNALS.map((signal) => [signal, ours(() => this.#onSignal(signal))] as const),
      ["uncaughtException", ours((error: unknown) => this.#onUncaught(error))],
    ];
  }

  add(job: TrackedJob): void {
    this.#jobs.add(job);
    if (this.#isSet || !this.#isOn) return;
    this.#isSet = true;
    // Where a program handles an event itself, it decides what becomes of its jobs.
    for (const [event, listener] of this.#handlers) {
      if (event === "beforeExit" || !hasOthers(event)) process.on(event as "SIGTERM", listener);
    }
  }

  discard(job: TrackedJob): void {
    this.#jobs.delete(job);
  }

  /** End the jobs that are open. Does not wait. */
  stopAll(error = WORKER_ENDED): void {
    for (const job of this.#jobs) job.stop(error, error === INTERRUPTED ? "cancelled" : "lost");
    this.#jobs.clear();
  }

  close(): void {
    for (const [event, listener] of this.#handlers) process.off(event, listener);
    this.#isSet = false;
  }

  /** Nothing of the program is left to run, so nobody will end these jobs. */
  async #onIdle(): Promise<void> {
    this.stopAll();
    await this.#flush(EXIT_MS);
  }

  /** End the jobs, and do what the process would have done. */
  #onSignal(signal: (typeof SIGNALS)[number]): void {
    if (hasOthers(signal)) return; // a handler that came after ours
    this.#remove(signal); // a second signal ends the process at once
    this.stopAll(signal === "SIGINT" ? INTERRUPTED : WORKER_ENDED);
    void this.#flush(EXIT_MS).finally(() => {
      if (listenersOf(signal).length > 0) return; // another publisher is not done yet
      if (process.pid === FIRST_PROCESS) process.exit(128 + constants.signals[signal]);
      process.kill(process.pid, signal);
    });
  }

  /** A rejection that nobody handles comes here too. Its job failed by it; the others are lost with the process. */
  #onUncaught(error: unknown): void {
    if (hasOthers("uncaughtException")) return;
    const job = this.#currentJob();
    if (job && !job.isEnded) void job.fail(error);
    this.stopAll();
    void this.#flush(EXIT_MS).finally(() => {
      this.#remove("uncaughtException");
      if (listenersOf("uncaughtException").length > 0) return;
      // Outside of any promise, so that Node.js prints it and ends as it would have.
      setImmediate(() => {
        throw error;
      });
    });
  }

  #remove(event: string): void {
    for (const [name, listener] of this.#handlers) if (name === event) process.off(name, listener);
  }
}

const ours = (listener: Listener): Listener => Object.assign(listener, { [OURS]: true });
const hasOthers = (event: string): boolean => listenersOf(event).some((listener) => !isOurs(listener));
