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
import { createProgressClient, type ProgressClient, type ProjectStore } from "./client.js";
import { type Job, type JobEvent, own } from "./jobs.js";
import type { ClientOptions } from "./options.js";
import { CONNECTING, type ConnectionStatus, IDLE, type Snapshot } from "./project.js";

export * from "./core.js";

export interface ProgressProviderProps extends ClientOptions {
  /** A client that you made yourself; the other options are then ignored. */
  client?: ProgressClient | undefined;
  children?: ReactNode;
}

export interface WebSocketOptions {
  /** URL of the gateway's WebSocket, instead of the provider's. */
  url?: string | undefined;
  /** False: do not subscribe. The last snapshot stays, marked as stale. */
  enabled?: boolean | undefined;
  /** Called at once with every event; `event.isReplay` marks those from before the page subscribed. */
  onEvent?: ((event: JobEvent) => void) | undefined;
  /** Called once for each end of a job, or of a sentence of it. */
  onTerminal?: ((job: Job, event: JobEvent) => void) | undefined;
}

export interface WebSocketResult extends Snapshot {
  /** Open a new connection now, also after the client gave up. Always the same function. */
  readonly reconnect: () => void;
}

const ClientContext = createContext<ProgressClient | undefined>(undefined);

// Without a provider: one client, and so one socket, for each URL. It connects when a component is mounted.
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

/** The value of the latest render, for callbacks that outlive a render. A new callback then needs no new connection. */
function useLatest<T>(value: T): { readonly current: T } {
  const ref = useRef(value);
  // Insertion effects run before all other effects, some of which connect.
  useInsertionEffect(() => {
    ref.current = value;
  });
  return ref;
}

/** Gives one client, and so one connection, to all components inside. */
export function ProgressProvider({ client, children, ...options }: ProgressProviderProps): ReactNode {
  const latest = useLatest(options);
  const url = typeof options.url === "function" ? null : options.url;
  // Only a new `client` or URL makes a new client. Functions may be new in each render, so the latest one is called for
  // each connection; the other options stay as they first were.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the other options must not reconnect
  const made = useMemo(() => {
    const getUrl = () => (latest.current.url as () => string)();
    const getToken = () => latest.current.getToken?.();
    return client ?? createProgressClient({ ...options, url: url === null ? getUrl : url, getToken });
  }, [client, url, latest]);
  return <ClientContext.Provider value={made}>{children}</ClientContext.Provider>;
}

/** What a component with `enabled: false` shows, also while another component watches the project. */
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

/** Watch a project: its jobs, its events, and whether they are current. Null or undefined: watch nothing. */
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

/** One job of a project; undefined while no event of it is known. Renders again only when that job changes. */
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

/** The status of the connection that all projects of a client share. */
export function useConnectionStatus({ url }: Pick<WebSocketOptions, "url"> = {}): ConnectionStatus {
  const client = useClient(url);
  return useSyncExternalStore(client.subscribe, client.getStatus, () => "disconnected");
}
