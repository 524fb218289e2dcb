/** The publisher that job authors make. */

import { AsyncLocalStorage } from "node:async_hooks";
import { EventError } from "./errors.js";
import { checkEvent, type Event, type Progress } from "./events.js";
import { describe, reasonFor } from "./failure.js";
import { HttpTransport } from "./http.js";
import { type Office, TrackedJob } from "./job.js";
import { JobState } from "./job-state.js";
import { Log } from "./log.js";
import { checkProjectId } from "./names.js";
import { NOT_SENT, publicationOf, publicationsOf } from "./publication.js";
import { RedisTransport } from "./redis.js";
import { NOWHERE, Sender } from "./sender.js";
import { endsAtSignals, isDisabled } from "./settings.js";
import { Stopping } from "./stopping.js";
import type { Transport } from "./transport.js";
import type {
  Job,
  JobType,
  PublishedEvent,
  Publisher,
  PublisherOptions,
  Reason,
  RememberedEvent,
  SendOptions,
  TrackOptions,
} from "./types.js";

type Work<T> = (job: Job) => T | PromiseLike<T>;

const FLUSH_SECONDS = 5;
const current = new AsyncLocalStorage<TrackedJob>();

/**
 * A publisher through Redis (`{ redis }`), or by HTTP (`{ url, key }`; without options `GATEWAY_URL` and `GATEWAY_KEY`).
 * Throws `EventError` for a bad option. Connects to nobody: your client of Redis does.
 */
export function createPublisher(options: PublisherOptions = {}): Publisher {
  return new PublisherOfJobs(options);
}

/** The job of the `trackJob` whose work this code runs in; throws outside of one. */
export function currentJob(): Job {
  const job = current.getStore();
  if (!job) throw new Error("no job is tracked here; use this within the work of publisher.trackJob(...)");
  return job;
}

class PublisherOfJobs implements Publisher {
  readonly #log: Log;
  readonly #transport: Transport;
  readonly #sender: Sender;
  readonly #office: Office;
  readonly #stopping: Stopping;
  readonly #isDisabled: boolean;

  constructor(options: PublisherOptions) {
    this.#isDisabled = isDisabled(options);
    this.#log = new Log(options.logger ?? console);
    this.#transport = this.#isDisabled ? ABSENT : transportOf(options, this.#log);
    this.#sender = new Sender(this.#transport, this.#log);
    const flush = (ms: number): Promise<void> => this.#sender.flush(ms);
    this.#stopping = new Stopping(endsAtSignals(options) && !this.#isDisabled, () => current.getStore(), flush);
    this.#office = {
      speaker: this.#isDisabled ? NOWHERE : this.#sender,
      log: this.#log,
      wait: (ending) => this.#sender.wait(ending),
      ended: (job) => this.#stopping.discard(job),
    };
  }

  async broadcastToProject(
    projectId: string,
    event: PublishedEvent,
    options: SendOptions = {},
  ): Promise<number | null> {
    const publication = publicationOf(projectId, event, this.#transport.namespace);
    const { sent } = await this.#transport.send([publication], options.strict);
    this.#log.replaced(publication, sent[0] ?? NOT_SENT);
    return sent[0]?.seq ?? null;
  }

  async broadcastMany(
    events: Iterable<readonly [projectId: string, event: PublishedEvent]>,
    options: SendOptions = {},
  ): Promise<(number | null)[]> {
    const publications = publicationsOf(events, this.#transport.namespace);
    if (publications.length === 0) return [];
    const { sent } = await this.#transport.send(publications, options.strict);
    for (const [index, one] of publications.entries()) this.#log.replaced(one, sent[index] ?? NOT_SENT);
    return sent.map(({ seq }) => seq);
  }

  async lastEvent(projectId: string, jobId: string, sentenceId?: string): Promise<RememberedEvent | null> {
    return rememberedIn(await this.#transport.remembered(checkProjectId(projectId), jobId, sentenceId));
  }

  trackJob<T>(projectId: string, jobId: string, jobType: JobType, work: Work<T>): Promise<T>;
  trackJob<T>(
    projectId: string,
    jobId: string,
    jobType: JobType,
    options: TrackOptions | undefined,
    work: Work<T>,
  ): Promise<T>;
  trackJob(projectId: string, jobId: string, jobType: JobType, options?: TrackOptions): Job;
  trackJob<T>(
    projectId: string,
    jobId: string,
    jobType: JobType,
    given?: TrackOptions | Work<T>,
    work = typeof given === "function" ? given : undefined,
  ): Promise<T> | Job {
    const options = typeof given === "function" ? {} : (given ?? {});
    return work ? this.#run(projectId, jobId, jobType, options, work) : this.#begin(projectId, jobId, jobType, options);
  }

  async #run<T>(projectId: string, jobId: string, jobType: JobType, options: TrackOptions, work: Work<T>): Promise<T> {
    const job = this.#begin(projectId, jobId, jobType, options);
    let result: T;
    try {
      result = await current.run(job, work, job);
    } catch (error) {
      await job.settle({ error });
      throw error;
    }
    await job.settle(undefined);
    return result;
  }

  #begin(projectId: string, jobId: string, jobType: JobType, options: TrackOptions): TrackedJob {
    const { namespace, replay } = this.#transport;
    const state = new JobState(
      projectId,
      { jobId, jobType, sentenceId: options.sentenceId },
      { ...options, namespace, replay },
    );
    const { resume } = options;
    if (resume) {
      const progress = state.checkProgress(resume.percent ?? 0, resume.message, resume.data);
      state.resume(progress, resume.isTold ?? true, performance.now());
    }
    const job = new TrackedJob(state, this.#office, options.willRetry);
    if (options.endsAtExit ?? true) this.#stopping.add(job);
    this.#office.speaker.begin(state);
    return job;
  }

  async endJob(
    projectId: string,
    jobId: string,
    jobType: JobType,
    error: unknown,
    options: { reason?: Reason | undefined } = {},
  ): Promise<void> {
    const failed = {
      type: "job_failed",
      error: describe(error) || "Failed",
      reason: options.reason ?? reasonFor(error),
    } as const;
    publicationOf(projectId, { ...failed, jobId, jobType }, ""); // before anything is asked
    if (this.#isDisabled) return;
    if (this.#transport instanceof HttpTransport) {
      await this.broadcastToProject(projectId, { ...failed, jobId, jobType }, { strict: true });
      return;
    }
    const known = await this.lastEvent(projectId, jobId);
    if (known === null) {
      // So that its end is seen, it begins.
      await this.broadcastToProject(
        projectId,
        { type: "progress", jobId, jobType, attempt: "next", progress: 0 },
        { strict: true },
      );
      return this.endJob(projectId, jobId, jobType, error, options);
    }
    if (known.type !== "progress") return;
    const parts = [...(await this.#openParts(projectId, known)), known];
    const ends = parts.map(({ jobId: id, jobType: type, sentenceId, attempt }): [string, PublishedEvent] => [
      projectId,
      { ...failed, jobId: id, jobType: type, sentenceId, attempt },
    ]);
    await this.broadcastMany(ends, { strict: true });
  }

  /** The last events of a job's sentences that run in the attempt of `job`, its own event. */
  async #openParts(projectId: string, job: RememberedEvent): Promise<RememberedEvent[]> {
    const own = `${job.jobId}\n`;
    const known = await this.#transport.allRemembered(projectId);
    return [...known].flatMap(([field, payload]) => {
      const event = field.startsWith(own) && field !== own ? rememberedIn(payload) : null;
      return event?.type === "progress" && event.attempt === job.attempt ? [event] : [];
    });
  }

  flush(seconds = FLUSH_SECONDS): Promise<void> {
    return this.#sender.flush(seconds * 1_000);
  }

  async close(): Promise<void> {
    this.#stopping.stopAll();
    await this.#sender.flush(FLUSH_SECONDS * 1_000);
    this.#stopping.close();
    this.#sender.stop();
    this.#transport.close();
  }
}

function transportOf(options: PublisherOptions, log: Log): Transport {
  if (typeof options !== "object" || options === null) throw new EventError({ "": "the options must be an object" });
  if (!("redis" in options)) return new HttpTransport(options, log);
  if ("url" in options) throw new EventError({ url: "and redis are both given; give one" });
  return new RedisTransport(options, log);
}

/** Read what another program may have written: one event, or null for anything else. */
function rememberedIn(payload: string | null): RememberedEvent | null {
  if (payload === null) return null;
  try {
    const given = JSON.parse(payload);
    const event: Event | Progress = checkEvent(given);
    return { ...event, ...(Number.isSafeInteger(given.seq) ? { seq: given.seq } : {}) } as RememberedEvent;
  } catch {
    return null;
  }
}

/** For `disabled`: each event is as if it had been refused. */
const ABSENT: Transport = {
  namespace: "",
  replay: true,
  laneOf: () => "",
  isAway: () => false,
  send: async (publications) => ({ sent: publications.map(() => NOT_SENT), givenUp: new Set() }),
  remembered: async () => null,
  allRemembered: async () => new Map(),
  close: () => {},
};
