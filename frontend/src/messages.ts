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
  clientId: string;
}

/**
 * One message of the client was bad; the connection stays.
 */
export interface ErrorMessage {
  type: "error";
  code: ErrorCode;
  message: string;
  projectId?: string;
}

/**
 * This replica drains: open the next connection at a random moment of the window, then leave this one.
 */
export interface GoingAway {
  type: "going_away";
  /*   */
  reconnectIn: [number, number];
}

/**
 * A job ended well.
 */
export interface JobCompleteMessage {
  type: "job_complete";
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  attempt?: number;
  result: Result;
  projectId: string;
}

/**
 * What a job made.
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
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
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
  seq?: number;
  jobId: string;
  jobType: "script" | "audio" | "image" | "video" | "export";
  sentenceId?: string;
  attempt?: number;
  progress: number;
  message?: string;
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
  seq: number;
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
