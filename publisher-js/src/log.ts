/** What a publisher logs: each kind of trouble once a minute, and never an event's text. One per publisher. */

import { MAX_JOBS, type Publication, type Sent, summaryOf } from "./publication.js";
import { redacted } from "./redaction.js";
import type { Logger } from "./types.js";

const PAUSE_MS = 60_000;

export class Log {
  readonly #logger: Logger;
  readonly #saidAt = new Map<string, number>(); // by kind of trouble
  readonly #replacedAt = new Map<string, number>(); // by job, the oldest first
  #unsent = 0; // events that are in no log line yet

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Count events that were given up after some time; the line names `first`. */
  unsent(first: Publication, events: number, where: string, why: string, seconds: number): void {
    this.#unsent += events;
    if (!this.#isDue("unsent")) return;
    const more = this.#unsent > 1 ? ` and ${this.#unsent - 1} more events` : "";
    this.#unsent = 0;
    this.#error(`Not sent after ${seconds.toFixed(1)} s: ${summaryOf(first)}${more}. ${where}: ${why}`);
  }

  /** The server answers again: say how many lost events are in no line yet. */
  answersAgain(where: string): void {
    if (this.#unsent > 0) this.#error(`${where} answers again; ${this.#unsent} more events were not sent`);
    this.#unsent = 0;
  }

  /** An event reached current viewers, and later ones will miss it. */
  unremembered(publication: Publication, where: string, why: string): void {
    if (!this.#isDue("unremembered")) return;
    this.#error(`Sent, but not remembered for later viewers: ${summaryOf(publication)}. ${where}: ${why}`);
  }

  /** Warn, once a minute for each job, that single events are refused because a later attempt has begun. */
  replaced(publication: Publication, { replacedBy }: Sent): void {
    if (replacedBy === undefined) return;
    const job = `${publication.key}\n${publication.event.jobId}`;
    const now = performance.now();
    if (now - (this.#replacedAt.get(job) ?? -PAUSE_MS) < PAUSE_MS) return;
    this.#replacedAt.delete(job);
    this.#replacedAt.set(job, now);
    for (const oldest of this.#replacedAt.keys()) {
      if (this.#replacedAt.size <= MAX_JOBS) break;
      this.#replacedAt.delete(oldest);
    }
    this.begunElsewhere(publication.projectId, publication.event.jobId, replacedBy);
  }

  /** Warn a worker whose job was begun again elsewhere. */
  begunElsewhere(projectId: string, jobId: string, attempt: number): void {
    const what = attempt < 0 ? "begun again, or ended, elsewhere" : `begun again elsewhere, as attempt ${attempt}`;
    this.warn(`job '${jobId}' of project '${projectId}' was ${what}; this attempt is no longer shown`);
  }

  /** Warn, each time. */
  warn(text: string): void {
    this.#say("warn", text);
  }

  /** Log an error of one kind, once a minute. */
  complain(kind: string, text: string): void {
    if (this.#isDue(kind)) this.#error(text);
  }

  #error(text: string): void {
    this.#say("error", text);
  }

  #say(level: "warn" | "error", text: string): void {
    try {
      this.#logger[level](`publisher: ${redacted(text)}`);
    } catch {
      // A logger that throws must not break a job.
    }
  }

  #isDue(kind: string): boolean {
    const now = performance.now();
    if (now - (this.#saidAt.get(kind) ?? -PAUSE_MS) < PAUSE_MS) return false;
    this.#saidAt.set(kind, now);
    return true;
  }
}
