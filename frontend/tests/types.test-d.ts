/** What TypeScript tells the users of the React side. Never run: `npm run types` checks it, and an error that is
 * expected here and does not come is an error too. */

import type { ReactNode } from "react";
import { expectTypeOf } from "vitest";
import {
  type ById,
  type ClientOptions,
  CloseCode,
  type ConnectionStatus,
  createProgressClient,
  type GatewayError,
  type Job,
  type JobEvent,
  type JobState,
  type JobType,
  type ProgressClient,
  ProgressProvider,
  type ProgressProviderProps,
  type ProjectStore,
  type Snapshot,
  useConnectionStatus,
  useJob,
  useSentence,
  useWebSocket,
  valuesOf,
  type WebSocketOptions,
  type WebSocketResult,
} from "../src/index.js";

export function ResultAndJob(): void {
  // The result

  const result = useWebSocket("project_1");
  expectTypeOf(result).toEqualTypeOf<WebSocketResult>();
  expectTypeOf(result).toExtend<Snapshot>();
  expectTypeOf<keyof WebSocketResult>().toEqualTypeOf<
    | "status"
    | "lastEvent"
    | "events"
    | "jobs"
    | "jobCounts"
    | "isStale"
    | "staleSince"
    | "recovered"
    | "error"
    | "retryAt"
    | "reconnect"
  >();
  expectTypeOf(result.status).toEqualTypeOf<"connecting" | "connected" | "disconnected">();
  expectTypeOf(result.lastEvent).toEqualTypeOf<JobEvent | null>();
  expectTypeOf(result.events).toEqualTypeOf<readonly JobEvent[]>();
  expectTypeOf(result.jobs).toEqualTypeOf<ById<Job>>();
  expectTypeOf(valuesOf(result.jobs)).toEqualTypeOf<Job[]>();
  expectTypeOf(result.jobs["job_1"]).toEqualTypeOf<Job | undefined>();
  expectTypeOf<Snapshot["jobs"][string]>().toEqualTypeOf<Job | undefined>(); // also without noUncheckedIndexedAccess
  expectTypeOf(result.isStale).toEqualTypeOf<boolean>();
  expectTypeOf(result.staleSince).toEqualTypeOf<number | null>();
  expectTypeOf(result.recovered).toEqualTypeOf<boolean>();
  expectTypeOf(result.error).toEqualTypeOf<GatewayError | null>();
  expectTypeOf(result.retryAt).toEqualTypeOf<number | null>();
  expectTypeOf(result.reconnect).toEqualTypeOf<() => void>();

  // A snapshot is never changed.

  // @ts-expect-error: it is read-only
  result.status = "connected";
  // @ts-expect-error: it is read-only
  result.jobs["job_1"] = undefined;
  // @ts-expect-error: it is read-only
  result.events.push(result.lastEvent!);
  // @ts-expect-error: it is read-only
  result.jobs["job_1"]!.percent = 100;

  // @ts-expect-error: no such status
  void (result.status === "open");
  // @ts-expect-error: may be null
  result.lastEvent.type;
  // @ts-expect-error: may be null
  result.error.code;

  // A job and its sentences

  const job = useJob("project_1", "job_1");
  expectTypeOf(job).toEqualTypeOf<Job | undefined>();
  // @ts-expect-error: may be unknown
  job.percent;
  expectTypeOf(job!.status).toEqualTypeOf<"running" | "complete" | "failed">();
  expectTypeOf(job!.percent).toEqualTypeOf<number>();
  expectTypeOf(job!.jobType).toEqualTypeOf<JobType>();
  expectTypeOf<"whatever">().toExtend<JobType>();
  expectTypeOf(job!.publishedAt).toEqualTypeOf<number | null>();
  expectTypeOf(job!.reason).toEqualTypeOf<"error" | "cancelled" | "timed_out" | "lost" | undefined>();
  expectTypeOf(job!.data).toEqualTypeOf<Record<string, unknown> | undefined>();
  // @ts-expect-error: what is shown is when it was published, not when the page heard of it
  job!.updatedAt;

  // One sentence

  expectTypeOf(useSentence("project_1", "job_1", "s1")).toEqualTypeOf<JobState | undefined>();
  useSentence(null, "job_1", "s1", { url: "ws://gateway.test/ws" });
  // @ts-expect-error: the id of the sentence is needed
  useSentence("project_1", "job_1");
  expectTypeOf(job!.sentences["s1"]).toEqualTypeOf<JobState | undefined>();
  expectTypeOf(job!.isTerminal).toEqualTypeOf<boolean>();
  expectTypeOf(job!.isSilent).toEqualTypeOf<boolean>();
  // @ts-expect-error: a sentence has no sentences
  job!.sentences["s1"]!.sentences;
}

// The author's own data

interface Preview {
  url: string;
  width?: number;
}

export function Previews(): void {
  const result = useWebSocket<Preview>("project_1", {
    onEvent: (event) => expectTypeOf(event).toEqualTypeOf<JobEvent<Preview>>(),
    onTerminal: (ended) => expectTypeOf(ended.data).toEqualTypeOf<Preview | undefined>(),
  });
  expectTypeOf(result.jobs["job_1"]).toEqualTypeOf<Job<Preview> | undefined>();
  expectTypeOf(result.lastEvent?.data).toEqualTypeOf<Preview | undefined>();
  expectTypeOf(useJob<Preview>("project_1", "job_1")?.data?.url).toEqualTypeOf<string | undefined>();
  expectTypeOf(useJob<Preview>("project_1", "job_1")?.sentences["s1"]?.data).toEqualTypeOf<Preview | undefined>();
  expectTypeOf(useSentence<Preview>("project_1", "job_1", "s1")?.data).toEqualTypeOf<Preview | undefined>();
  const client = createProgressClient<Preview>();
  expectTypeOf(client.project("project_1")).toEqualTypeOf<ProjectStore<Preview>>();
  expectTypeOf(client.project<{ other: 1 }>("project_1")).toEqualTypeOf<ProjectStore<{ other: 1 }>>();
  // @ts-expect-error: no such field
  result.lastEvent?.data?.height;
}

// An event is told apart by its type.

export function told(event: JobEvent): ReactNode {
  expectTypeOf(event.isReplay).toEqualTypeOf<boolean>();
  expectTypeOf(event.seq).toEqualTypeOf<number | undefined>();
  // @ts-expect-error: only progress has it
  event.progress;
  switch (event.type) {
    case "progress":
      expectTypeOf(event.progress).toEqualTypeOf<number>();
      // @ts-expect-error: not yet
      event.result;
      return event.message;
    case "job_complete":
      expectTypeOf(event.result.duration).toEqualTypeOf<number | undefined>();
      return event.result.file;
    case "job_failed":
      expectTypeOf(event.error).toEqualTypeOf<string>();
      return event.error;
    default:
      return expectTypeOf(event).toEqualTypeOf<never>();
  }
}

// What may be asked for

export function Asking(): void {
  useWebSocket(null);
  useWebSocket(undefined);
  useWebSocket("project_1", {});
  useWebSocket("project_1", {
    url: "wss://gateway.example/ws",
    enabled: false,
    onEvent: (event) => expectTypeOf(event).toEqualTypeOf<JobEvent>(),
    onTerminal: (ended, event, what) => {
      expectTypeOf(what).toEqualTypeOf<"job" | "sentence">();
      expectTypeOf(ended).toEqualTypeOf<Job>();
      expectTypeOf(event).toEqualTypeOf<JobEvent>();
    },
  });
  // What a page has not got yet may be handed on as it is, also with exactOptionalPropertyTypes.
  useWebSocket("project_1", { url: undefined, enabled: undefined, onEvent: undefined, onTerminal: undefined });
  // @ts-expect-error: an id is needed, if only null
  useWebSocket();
  // @ts-expect-error: an id is a text
  useWebSocket(1);
  // @ts-expect-error: no such option
  useWebSocket("project_1", { onMessage: () => {} });
  // @ts-expect-error: true or false
  useWebSocket("project_1", { enabled: "no" });
  // @ts-expect-error: the first argument is an event
  useWebSocket("project_1", { onEvent: (event: string) => event });
  expectTypeOf<keyof WebSocketOptions>().toEqualTypeOf<"url" | "enabled" | "onEvent" | "onTerminal">();

  useJob(null, "job_1", { url: "ws://gateway.test/ws" });
  // @ts-expect-error: a job's id is needed
  useJob("project_1");

  expectTypeOf(useConnectionStatus()).toEqualTypeOf<ConnectionStatus>();
  expectTypeOf(useConnectionStatus({ url: "ws://gateway.test/ws" })).toEqualTypeOf<ConnectionStatus>();
  // @ts-expect-error: the connection is that of all projects
  useConnectionStatus("project_1");
}

// The provider

expectTypeOf(ProgressProvider).returns.toEqualTypeOf<ReactNode>();
expectTypeOf(ProgressProvider).parameter(0).toEqualTypeOf<ProgressProviderProps>();
expectTypeOf<ProgressProviderProps>().toExtend<ClientOptions>();
export const props: ProgressProviderProps[] = [
  {},
  { children: "anything" },
  { url: "ws://gateway.test/ws" },
  { url: () => "ws://gateway.test/ws", getToken: () => "token", historyLimit: 10, webSocketImpl: WebSocket },
  { getToken: async () => "token" },
  { client: createProgressClient() },
  { client: undefined, url: undefined, getToken: undefined, historyLimit: undefined, webSocketImpl: undefined },
];
// @ts-expect-error: a token is a text
export const badToken: ProgressProviderProps = { getToken: () => 1 };
// @ts-expect-error: a number
export const badLimit: ProgressProviderProps = { historyLimit: "10" };
// @ts-expect-error: a client is made by createProgressClient
export const badClient: ProgressProviderProps = { client: {} };

// The core comes with the hook.

expectTypeOf(createProgressClient).returns.toEqualTypeOf<ProgressClient>();
expectTypeOf(createProgressClient({}).project("project_1")).toEqualTypeOf<ProjectStore>();
expectTypeOf(createProgressClient().project("project_1").getSnapshot()).toEqualTypeOf<Snapshot>();
expectTypeOf(CloseCode.NOT_AUTHORISED).toEqualTypeOf<4401>();
