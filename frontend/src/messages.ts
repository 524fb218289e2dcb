/**
 * The messages of `/ws`. Made by `npm run messages` from docs/messages.schema.json, which is made from the gateway's
 * own models; tests hold both to be current.
 */

/**
 * What was wrong with one message of a client; the connection stays.
 */
export type ErrorCode =
  | "not_text"
  | "not_json"
  | "bad_message"
  | "unknown_type"
  | "bad_project_id"
  | "bad_since"
  | "rate_limited"
  | "too_many_projects"
  | "unavailable";

export type ClientMessage = Subscribe | Unsubscribe | Ping;

export type ServerMessage =
  | Connected
  | Subscribed
  | Unsubscribed
  | ProgressMessage
  | JobCompleteMessage
  | JobFailedMessage
  | Stale
  | Live
  | GoingAway
  | Pong
  | ErrorMessage;

/**
 * The first message of a connection.
 */
export interface Connected {
  type: "connected";
  /**
   * Names this connection in the gateway's log.
   */
  clientId: string;
}

/**
 * One message of the client was bad; the connection stays.
 */
export interface ErrorMessage {
  type: "error";
  code: ErrorCode;
  /**
   * A sentence for the developer who reads it.
   */
  message: string;
  projectId?: string;
}

/**
 * This replica drains: open the next connection at a random moment of the window, then leave this one.
 */
export interface GoingAway {
  type: "going_away";
  /**
   * The window, from and to, in milliseconds from now.
   */
  reconnectIn: [number, number];
}

/**
 * A job ended well.
 */
export interface JobCompleteMessage {
  type: "job_complete";
  /**
   * The event's place in its project, given by the publish script: a clock in microseconds.
   */
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  /**
   * Which try this is, from 0. Where two events of a job carry it, late ones are refused (see publish.lua).
   */
  attempt?: number;
  result: Result;
  projectId: string;
}

/**
 * What a job made: a file's name or URL, and its duration in seconds.
 */
export interface Result {
  file?: string;
  duration?: number;
}

/**
 * A job ended badly.
 */
export interface JobFailedMessage {
  type: "job_failed";
  /**
   * The event's place in its project, given by the publish script: a clock in microseconds.
   */
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  /**
   * Which try this is, from 0. Where two events of a job carry it, late ones are refused (see publish.lua).
   */
  attempt?: number;
  error: string;
  projectId: string;
}

/**
 * This replica has its feed back and has sent all that was missed.
 */
export interface Live {
  type: "live";
}

/**
 * Ask for a `pong`: page scripts cannot see WebSocket pings.
 */
export interface Ping {
  type: "ping";
}

/**
 * The answer to `ping`.
 */
export interface Pong {
  type: "pong";
}

/**
 * A job goes on.
 */
export interface ProgressMessage {
  type: "progress";
  /**
   * The event's place in its project, given by the publish script: a clock in microseconds.
   */
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  /**
   * Which try this is, from 0. Where two events of a job carry it, late ones are refused (see publish.lua).
   */
  attempt?: number;
  progress: number;
  message?: string;
  /**
   * Seconds within which the job promises its next event, so that a silent job can be told from a slow one.
   */
  nextWithin?: number;
  projectId: string;
}

/**
 * This replica lost its feed: what is shown may be old.
 */
export interface Stale {
  type: "stale";
}

/**
 * Watch a project; with `since`, continue after that seq.
 */
export interface Subscribe {
  type: "subscribe";
  projectId: string;
  since?: number;
}

/**
 * From here on every event of the project, or a newer event of the same job, reaches this client.
 */
export interface Subscribed {
  type: "subscribed";
  projectId: string;
  /**
   * The project's newest seq at this moment: an event up to it is replayed, one above it is news.
   */
  seq: number;
  /**
   * True: nothing that still matters was missed since `since`.
   */
  recovered: boolean;
}

/**
 * Watch a project no longer.
 */
export interface Unsubscribe {
  type: "unsubscribe";
  projectId: string;
}

/**
 * The project is watched no longer.
 */
export interface Unsubscribed {
  type: "unsubscribed";
  projectId: string;
}
