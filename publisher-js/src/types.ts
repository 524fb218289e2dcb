/** What job authors give to a publisher, and what they get. */

import type { JobCompleteMessage, JobFailedMessage, JobType, ProgressMessage, Result } from "./messages.js";

/** An event as an author writes it: no project, no seq, and `undefined` where nothing is to be said. */
type Written<T> = Loose<Omit<T, "projectId" | "seq" | "attempt">>;
type Loose<T> = { [K in keyof T]: Partial<T>[K] extends T[K] ? T[K] | undefined : T[K] };

/** A job goes on. `"attempt": "next"` begins the job's next attempt, which Redis numbers. */
export type ProgressEvent = Written<ProgressMessage> & { attempt?: number | "next" | undefined };
/** A job ended well. */
export type JobCompleteEvent = Omit<Written<JobCompleteMessage>, "result"> & {
  result?: Loose<Result> | undefined;
  attempt?: number | undefined;
};
/** A job ended badly. */
export type JobFailedEvent = Written<JobFailedMessage> & { attempt?: number | undefined };

/** An event of a job, as `broadcastToProject` takes it. Unknown fields are dropped. */
export type PublishedEvent = ProgressEvent | JobCompleteEvent | JobFailedEvent;

/** An event as Redis remembers it, with its `seq`. */
export type RememberedEvent =
  | Omit<ProgressMessage, "projectId">
  | Omit<JobCompleteMessage, "projectId">
  | Omit<JobFailedMessage, "projectId">;

/** What kind of end a failure is. */
export type Reason = NonNullable<JobFailedMessage["reason"]>;

/** An object of the author's own, for pages to show: at most 8 KiB as JSON and 16 levels deep. */
export type Data = Record<string, unknown>;

export type { JobType, Result };

/** A client of the package `ioredis`: `new Redis(...)`, behind Sentinels too, or `new Cluster(...)`. */
export interface IoredisClient {
  readonly status: string;
  // biome-ignore lint/suspicious/noExplicitAny: ioredis overloads it for each kind of argument
  call(command: string, ...args: any[]): Promise<unknown>;
}

/** A client of the package `redis`: `createClient(...)`, `createSentinel(...)` or `createCluster(...)`. */
export interface NodeRedisClient {
  readonly isOpen: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: each kind of node-redis client has arguments of its own
  sendCommand(...args: any[]): Promise<unknown>;
}

/** Where log lines go; `console` is one. */
export interface Logger {
  warn(message: string): void;
  error(message: string): void;
}

interface CommonOptions {
  /** Where log lines go. Default: `console`. */
  logger?: Logger | undefined;
  /** True: nothing is sent, for tests of code that publishes. Default: `PROGRESS_DISABLED`, off. */
  disabled?: boolean | undefined;
  /** False: SIGTERM and SIGINT do not end open jobs. Default: `PROGRESS_SIGTERM`, on. */
  endsAtSignals?: boolean | undefined;
}

/** Publish through Redis, with a client of your own. It is never closed here. */
export interface RedisOptions extends CommonOptions {
  redis: IoredisClient | NodeRedisClient;
  /** Prefix of `project:<id>`, so that two environments can share one Redis. Default: `PROGRESS_NAMESPACE`, none. */
  namespace?: string | undefined;
  /** False: a plain PUBLISH; Redis remembers nothing, and events have no seq. Default: `PROGRESS_REPLAY`, on. */
  replay?: boolean | undefined;
}

/** Publish by HTTP, through any replica of the gateway. */
export interface HttpOptions extends CommonOptions {
  /** The gateway's address, such as `https://progress.example.com`. Default: `GATEWAY_URL`. */
  url?: string | undefined;
  /** One of the gateway's publish keys, or a token with the claim `publish`. Default: `GATEWAY_KEY`. */
  key?: string | undefined;
  /** Default: the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** The options of `createPublisher`. */
export type PublisherOptions = RedisOptions | HttpOptions;

/** The options of `broadcastToProject` and `broadcastMany`. */
export interface SendOptions {
  /** Reject with a `PublishError` if an event could not be sent. */
  strict?: boolean | undefined;
}

/** After which errors the job is tried again: all of them, those of some classes, or those that a function accepts. */
export type WillRetry = boolean | ErrorClass | readonly ErrorClass[] | ((error: unknown) => boolean);
// biome-ignore lint/suspicious/noExplicitAny: a class of errors may take any arguments
type ErrorClass = abstract new (...args: any[]) => unknown;

/** Where a job stood when its last process left it: see `TrackOptions.resume`. */
export interface Resume {
  /** The attempt that is continued. Without one, events carry no number and are never refused. */
  attempt?: number | undefined;
  percent?: number | undefined;
  message?: string | undefined;
  data?: Data | undefined;
  /** False: these words are news, and are sent. Default: true. */
  isTold?: boolean | undefined;
}

/** The options of `trackJob`. */
export interface TrackOptions {
  /** Track one part of a job. A sentence begins no attempt: give the job's `attempt`, if it has one. */
  sentenceId?: string | undefined;
  /** The number of the attempt is at least this. */
  attempt?: number | "next" | undefined;
  /** Seconds without news after which the last progress is sent again; null for never. Default: 15. */
  heartbeat?: number | null | undefined;
  /** The most progresses a second that are sent. Default: 10. */
  perSecond?: number | undefined;
  /** After which errors the job does not end: viewers read that it will be tried again. Default: none. */
  willRetry?: WillRetry | undefined;
  /** Of the job's begin, for pages to show. */
  data?: Data | undefined;
  /** Continue a job that another process, or another request, began: no attempt begins. */
  resume?: Resume | undefined;
  /** False: only heartbeats promise a next event (`nextWithin`). Default: true. */
  promisesAtOnce?: boolean | undefined;
  /** False: when the process stops, the job is left as it is; whatever runs it will run it again. Default: true. */
  endsAtExit?: boolean | undefined;
}

/** The last words of a progress. */
export interface ProgressOptions {
  /** Stays until the next progress that brings some. */
  data?: Data | undefined;
  /** Seconds within which the next event is promised, for this progress. Default: two heartbeats. */
  nextWithin?: number | undefined;
  /** Send it at once, whatever the pace. */
  force?: boolean | undefined;
}

export interface CompleteOptions {
  /** What the job made: a name or URL. */
  file?: string | undefined;
  /** Of what was made, in seconds. */
  duration?: number | undefined;
  /** The job's last; those of its progress are not kept. */
  data?: Data | undefined;
}

export interface FailOptions {
  reason?: Reason | undefined;
  /** The job's last; those of its progress are not kept. */
  data?: Data | undefined;
}

/** A job, or a sentence of one, that is being tracked. Lives until its end was sent. */
export interface Job extends AsyncDisposable {
  readonly projectId: string;
  readonly jobId: string;
  readonly sentenceId: string | undefined;
  /** The number of this attempt; undefined until Redis answered the begin, and with replay off. */
  readonly attempt: number | undefined;
  /** The highest progress so far. */
  readonly percent: number;
  /** True after `complete` or `fail`, when it was left for another try, or once a later attempt replaced it. */
  readonly isEnded: boolean;

  /**
   * Report that `percent` of it are done: 0 to 100, of which one decimal is sent.
   *
   * Takes microseconds: it is sent in the background, at most ten times a second. The latest wins, and the last is
   * never lost. A lower value leaves the bar where it is; without `message` the last one stays. Throws `EventError` for
   * what is no percentage. After the end it only warns.
   */
  progress(percent: number, message?: string, options?: ProgressOptions): void;

  /**
   * A part of this job with a progress of its own; the same object for the same id. If it is still open when the job
   * ends, it ends as the job does.
   */
  sentence(sentenceId: string): Job;

  /** Work through sentences: announce all, yield each in turn, and complete it after its turn. */
  sentences(sentenceIds: Iterable<string>): AsyncIterable<Job>;

  /**
   * Yield each item, and report after each how many are done: `for (const page of job.track(pages)) ...`
   *
   * `message` may hold `{n}` and `{total}`.
   */
  track<T>(items: Iterable<T>, message?: string, options?: { total?: number | undefined }): Iterable<T>;

  /**
   * End the job well. Resolves when it was sent, with its `seq`; null if it was refused or could not be sent yet.
   * Throws `EventError` for a result that does not fit.
   */
  complete(options?: CompleteOptions): Promise<number | null>;

  /** End the job badly. `error` is a sentence for viewers, or what was thrown. Resolves as `complete`. */
  fail(error: unknown, options?: FailOptions): Promise<number | null>;

  /**
   * Leave the job to another try, or to another process: what is unsent is sent, with `message` if there is one, and
   * the promise of a next event is taken back. There is no end.
   */
  leave(message?: string): Promise<void>;

  /** Say nothing more, not even an end: another process tells what becomes of the job. */
  drop(): void;

  /** `await using`: a job that is still open failed, "Stopped before its end". */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Publishes events of jobs. Lives as long as the process; safe to share. */
export interface Publisher {
  /**
   * Publish one event to everybody who watches the project.
   *
   * Resolves with the event's `seq`; null when the rules for attempts refused it, when it could not be sent, or when
   * replay is off. It is tried for 5 seconds at most; then the loss is logged, once a minute. Rejects with `EventError`,
   * before anything is sent, for an event that does not fit.
   */
  broadcastToProject(projectId: string, event: PublishedEvent, options?: SendOptions): Promise<number | null>;

  /** Publish events of any projects, in order. All are checked before any is sent. */
  broadcastMany(
    events: Iterable<readonly [projectId: string, event: PublishedEvent]>,
    options?: SendOptions,
  ): Promise<(number | null)[]>;

  /**
   * The last event that Redis remembers of a job, or null. Asks once: rejects with `PublishError` if Redis is away. By
   * HTTP there is no such question, and it always rejects.
   */
  lastEvent(projectId: string, jobId: string, sentenceId?: string): Promise<RememberedEvent | null>;

  /**
   * Publish the progress of one job, from its begin to its end. The job is complete when `work` returns; what it
   * throws sends `job_failed` and is thrown on. Without `work`, a job for `await using`.
   */
  trackJob<T>(projectId: string, jobId: string, jobType: JobType, work: (job: Job) => T | PromiseLike<T>): Promise<T>;
  trackJob<T>(
    projectId: string,
    jobId: string,
    jobType: JobType,
    options: TrackOptions | undefined,
    work: (job: Job) => T | PromiseLike<T>,
  ): Promise<T>;
  trackJob(projectId: string, jobId: string, jobType: JobType, options?: TrackOptions): Job;

  /**
   * Tell from beside that a job failed (its worker was killed, it was cancelled in its queue), with its open sentences.
   * Nothing is sent if it has ended. A job that never began begins, so that its end is seen. Rejects with
   * `PublishError` if it could not be told; try again then.
   */
  endJob(
    projectId: string,
    jobId: string,
    jobType: JobType,
    error: unknown,
    options?: { reason?: Reason | undefined },
  ): Promise<void>;

  /** Send what is unsent, for at most `seconds`. Before a serverless function returns. Default: 5. */
  flush(seconds?: number): Promise<void>;

  /** Flush, then stop timers and signal handlers. Open jobs end as lost. Your client of Redis stays open. */
  close(): Promise<void>;
}
