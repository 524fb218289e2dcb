/** The client without React: one connection for all projects of a page, and a store for each project. */

export { createProgressClient, type ProgressClient, type ProjectStore } from "./client.js";
export { CloseCode } from "./codes.js";
export type { Job, JobEvent, JobState, JobStatus } from "./jobs.js";
export type { Socket, SocketType } from "./link.js";
export type {
  ClientMessage,
  ErrorCode,
  JobCompleteMessage,
  JobFailedMessage,
  ProgressMessage,
  Result,
  ServerMessage,
} from "./messages.js";
export type { ClientOptions } from "./options.js";
export type { ConnectionStatus, GatewayError, Handlers, Listener, Snapshot } from "./project.js";
