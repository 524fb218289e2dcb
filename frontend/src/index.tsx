"use client";

import {
  createContext,
  type ReactNode,
  useContext,
  useInsertionEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from "react";
import { type ClientOptions, createProgressClient, type ProgressClient, type ProjectStore } from "./client.js";
import { type Job, type JobEvent, own } from "./jobs.js";
import { CONNECTING, type ConnectionStatus, IDLE, type Snapshot } from "./project.js";

export * from "./core.js";

export interface ProgressProviderProps extends ClientOptions {
  /** A client of your own making, instead of the other options. */
  client?: ProgressClient | undefined;
  children?: ReactNode;
}

export interface WebSocketOptions {
  /** Of the gateway's WebSocket, instead of the provider's. */
  url?: string | undefined;
  /** False: not connected; what is shown stays, and is marked as stale. */
  enabled?: boolean | undefined;
  /** Called with every event, at once; `event.isReplay` marks what happened before the page subscribed. */
  onEvent?: ((event: JobEvent) => void) | undefined;
  /** Called once when a job, or a sentence of it, has ended. */
  onTerminal?: ((job: Job, event: JobEvent) => void) | undefined;
}

export interface WebSocketResult extends Snapshot {
  /** Connect anew now, whatever was given up; always the same function. */
  readonly reconnect: () => void;
}

const ClientContext = createContext<ProgressClient | undefined>(undefined);

// Without a provider: one client, and so one socket, for each URL. None connects before a component is mounted.
const clients = new Map<string | undefined, ProgressClient>();

function clientFor(url: string | undefined): ProgressClient {
  const client = clients.get(url) ?? createProgressClient({ url });
  clients.set(url, client);
  return client;
}

function useClient(url: string | undefined): ProgressClient {
  const provided = useContext(ClientContext);
  return url === undefined && provided ? provided : clientFor(url);
}

/** The latest value, for callbacks that outlive a render: to change an option reconnects nothing. */
function useLatest<T>(value: T): { readonly current: T } {
  const ref = useRef(value);
  // Before the effects of all components, of which some connect.
  useInsertionEffect(() => {
    ref.current = value;
  });
  return ref;
}

/** Says where the gateway is to all components inside; they share one connection. */
export function ProgressProvider({ client, children, ...options }: ProgressProviderProps): ReactNode {
  const latest = useLatest(options);
  const url = typeof options.url === "function" ? null : options.url;
  // What may be a new function in each render is asked for at each connection; what else is not a URL is taken as it was
  // at first, since a change must not reconnect.
  // biome-ignore lint/correctness/useExhaustiveDependencies: as said
  const made = useMemo(() => {
    const getUrl = () => (latest.current.url as () => string)();
    const getToken = () => latest.current.getToken?.();
    return client ?? createProgressClient({ ...options, url: url === null ? getUrl : url, getToken });
  }, [client, url, latest]);
  return <ClientContext.Provider value={made}>{children}</ClientContext.Provider>;
}

/** A component that is not connected says so, also while another one watches the project. */
const DISABLED = { status: "disconnected", isStale: true } as const;

const serverSnapshot = (): Snapshot => CONNECTING;
const noStore: Pick<ProjectStore, "subscribe" | "getSnapshot"> = { subscribe: () => () => {}, getSnapshot: () => IDLE };

function useStore(
  projectId: string | null | undefined,
  url: string | undefined,
): [ProgressClient, ProjectStore | null] {
  const client = useClient(url);
  return [client, useMemo(() => (projectId ? client.project(projectId) : null), [client, projectId])];
}

/** Watch a project: how its jobs go, and how far what is shown can be relied on. Null: nothing is watched. */
export function useWebSocket(projectId: string | null | undefined, options: WebSocketOptions = {}): WebSocketResult {
  const { url, enabled = true } = options;
  const [client, store] = useStore(projectId, url);
  const latest = useLatest(options);
  const { subscribe, getSnapshot } = useMemo(
    () =>
      store
        ? {
            ...store,
            subscribe: (onChange: () => void) =>
              store.subscribe(onChange, {
                isPassive: !enabled,
                onEvent: (event) => enabled && latest.current.onEvent?.(event),
                onTerminal: (job, event) => enabled && latest.current.onTerminal?.(job, event),
              }),
          }
        : noStore,
    [store, enabled, latest],
  );
  const snapshot = useSyncExternalStore(
    subscribe,
    getSnapshot,
    store && enabled ? serverSnapshot : noStore.getSnapshot,
  );
  return useMemo(
    () => ({ ...snapshot, ...(enabled ? undefined : DISABLED), reconnect: client.reconnect }),
    [snapshot, enabled, client],
  );
}

/** One job of a project: renders again only when that job changes. Undefined while nothing is known of it. */
export function useJob(
  projectId: string | null | undefined,
  jobId: string,
  { url }: Pick<WebSocketOptions, "url"> = {},
): Job | undefined {
  const [, store] = useStore(projectId, url);
  const { subscribe, getSnapshot } = store ?? noStore;
  return useSyncExternalStore(
    subscribe,
    () => own(getSnapshot().jobs, jobId),
    () => undefined,
  );
}

/** The status of the connection that all projects share. */
export function useConnectionStatus({ url }: Pick<WebSocketOptions, "url"> = {}): ConnectionStatus {
  const client = useClient(url);
  return useSyncExternalStore(client.subscribe, client.getStatus, () => "disconnected");
}
