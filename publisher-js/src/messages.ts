/**
 * The messages of `/ws`. Made by `npm run messages` from docs/messages.schema.json, which is made from the gateway's
 * own models; tests hold both to be current.
 */

/** Why a message of a client was refused. The connection stays open. */
export type ErrorCode =
  | "not_text"
  | "not_json"
  | "bad_message"
  | "unknown_type"
  | "bad_project_id"
  | "bad_since"
  | "rate_limited"
  | "too_many_projects"
  | "forbidden"
  | "unavailable";

/** The kind of a job. Any text of 1 to 64 characters passes; pages know icons for the well-known ones. */
export type JobType = "script" | "audio" | "image" | "video" | "export" | (string & {});

/** An event of a job. */
export type EventMessage = ProgressMessage | JobCompleteMessage | JobFailedMessage;

export type ClientMessage = Auth | Subscribe | Unsubscribe | Ping;

export type ServerMessage =
  | Connected
  | Authorised
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

/** Show a token, at any time. `authorised` answers it; a token that is refused ends the connection. */
export interface Auth {
  /** The kind of message. */
  type: "auth";
  /** A JWT that names the projects which its bearer may watch. */
  token: string;
}

/** The token of the client's last `auth` counts from now on. */
export interface Authorised {
  /** The kind of message. */
  type: "authorised";
  /** In how many milliseconds it expires. Relative, so a wrong clock of the client does not matter. */
  expiresIn: number;
}

/** The first message of a connection. */
export interface Connected {
  /** The kind of message. */
  type: "connected";
  /** The id of this connection in the gateway's log. */
  clientId: string;
  /** In how many milliseconds the token of the handshake expires, if there was one. */
  expiresIn?: number;
}

/** A message of the client was refused. The connection stays open. */
export interface ErrorMessage {
  /** The kind of message. */
  type: "error";
  /** What was wrong, for programs. */
  code: ErrorCode;
  /** What was wrong, in a sentence for developers. */
  message: string;
  /** The project that the client's message was about, if it named a valid one. */
  projectId?: string;
}

/** This replica will stop. Open another connection at a random moment of the window, then close this one. */
export interface GoingAway {
  /** The kind of message. */
  type: "going_away";
  /** The window's start and end, in milliseconds from now. */
  reconnectIn: [number, number];
}

/** A job ended well. */
export interface JobCompleteMessage {
  /** What happened: the kind of event. */
  type: "job_complete";
  /** The event's place in its project: Redis' clock in microseconds, always above the last. Set when it is sent. */
  seq?: number;
  /** The job, within its project: 1 to 128 printable characters. */
  jobId: string;
  /** The kind of job: 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter. Pages know icons for script, audio, image, video and export. */
  jobType: JobType;
  /** The sentence that this event is about, of a job that works by sentences: 1 to 128 printable characters. */
  sentenceId?: string;
  /** Which try of the job this is, counted from 0. A later attempt replaces an earlier one, an end too. */
  attempt?: number;
  /** What the job made; may be empty. */
  result: Result;
  /** The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted. */
  data?: Record<string, unknown>;
  /** The project of the job. */
  projectId: string;
}

/** What a job made. */
export interface Result {
  /** The name or URL of the file, at most 8,192 bytes in UTF-8. */
  file?: string;
  /** The duration of what was made, in seconds: 0 or more. */
  duration?: number;
}

/** A job ended badly. */
export interface JobFailedMessage {
  /** What happened: the kind of event. */
  type: "job_failed";
  /** The event's place in its project: Redis' clock in microseconds, always above the last. Set when it is sent. */
  seq?: number;
  /** The job, within its project: 1 to 128 printable characters. */
  jobId: string;
  /** The kind of job: 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter. Pages know icons for script, audio, image, video and export. */
  jobType: JobType;
  /** The sentence that this event is about, of a job that works by sentences: 1 to 128 printable characters. */
  sentenceId?: string;
  /** Which try of the job this is, counted from 0. A later attempt replaces an earlier one, an end too. */
  attempt?: number;
  /** Why it failed, for people: one line, cut to 2,000 characters. */
  error: string;
  /** What kind of end it is: an error (also where this is absent), cancelled, timed out, or lost with its worker. */
  reason?: "error" | "cancelled" | "timed_out" | "lost";
  /** The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted. */
  data?: Record<string, unknown>;
  /** The project of the job. */
  projectId: string;
}

/** This replica is connected to Redis again, and has sent all that was missed. */
export interface Live {
  /** The kind of message. */
  type: "live";
}

/** Ask for a `pong`. Scripts in a page cannot see WebSocket pings. */
export interface Ping {
  /** The kind of message. */
  type: "ping";
}

/** The answer to `ping`. */
export interface Pong {
  /** The kind of message. */
  type: "pong";
}

/** A job goes on. */
export interface ProgressMessage {
  /** What happened: the kind of event. */
  type: "progress";
  /** The event's place in its project: Redis' clock in microseconds, always above the last. Set when it is sent. */
  seq?: number;
  /** The job, within its project: 1 to 128 printable characters. */
  jobId: string;
  /** The kind of job: 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter. Pages know icons for script, audio, image, video and export. */
  jobType: JobType;
  /** The sentence that this event is about, of a job that works by sentences: 1 to 128 printable characters. */
  sentenceId?: string;
  /** Which try of the job this is, counted from 0. A later attempt replaces an earlier one, an end too. */
  attempt?: number;
  /** How much is done, in percent: 0 to 100. */
  progress: number;
  /** What the job does now, for people: one line, cut to 2,000 characters. */
  message?: string;
  /** The job promises its next event within so many seconds, at most 86,400. After that its worker may be dead. */
  nextWithin?: number;
  /** The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted. */
  data?: Record<string, unknown>;
  /** The project of the job. */
  projectId: string;
}

/** This replica lost its connection to Redis: what the client shows may be out of date. */
export interface Stale {
  /** The kind of message. */
  type: "stale";
}

/** Watch a project. `subscribed` answers it; then follow the events that were missed, and live ones. */
export interface Subscribe {
  /** The kind of message. */
  type: "subscribe";
  /** The project: 1 to 128 characters of A-Z a-z 0-9 _ - . : that begin with a letter or digit. */
  projectId: string;
  /** The highest seq that the client has seen of the project. Without it, or with 0, all jobs are replayed. */
  since?: number;
}

/** Every event that is published after this reaches the client, or a newer event of the same job does. */
export interface Subscribed {
  /** The kind of message. */
  type: "subscribed";
  /** The project. */
  projectId: string;
  /** The project's newest seq at this moment, or 0. Events up to it are replayed; events above it are new. */
  seq: number;
  /** True if the client missed nothing that still matters since `since`. */
  recovered: boolean;
}

/** Stop watching a project. */
export interface Unsubscribe {
  /** The kind of message. */
  type: "unsubscribe";
  /** The project. */
  projectId: string;
}

/** The client no longer watches the project. */
export interface Unsubscribed {
  /** The kind of message. */
  type: "unsubscribed";
  /** The project. */
  projectId: string;
}
