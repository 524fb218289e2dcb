/** The client without React: one connection for all projects of a page, and a store for each project. */

export { createProgressClient, type ProgressClient, type ProjectStore } from "./client.js";
export { CloseCode } from "./codes.js";
export type { JobCounts } from "./jobs.js";
export type { Socket, SocketType } from "./link.js";
export type {
  ClientMessage,
  ErrorCode,
  JobCompleteMessage,
  JobFailedMessage,
  JobType,
  ProgressMessage,
  Result,
  ServerMessage,
} from "./messages.js";
export type { ClientOptions } from "./options.js";
export type { ClientErrorCode, ConnectionStatus, GatewayError, Handlers, Listener, Snapshot } from "./project.js";
export type { JobStatus } from "./rules.js";
export {
  type ById,
  type Ended,
  type Job,
  type JobData,
  type JobEvent,
  type JobState,
  type Reason,
  valuesOf,
} from "./state.js";
