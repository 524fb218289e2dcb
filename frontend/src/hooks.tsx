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
import type { ProgressClient, ProjectStore } from "./client.js";
import { clientFor } from "./clients.js";
import type { ClientOptions } from "./options.js";
import { CONNECTING, type ConnectionStatus, type Handlers, type Snapshot } from "./project.js";
import { type Job, type JobData, type JobState, own } from "./state.js";

export interface ProgressProviderProps extends ClientOptions {
  /** A client that you made yourself; the other options are then ignored. */
  client?: ProgressClient | undefined;
  children?: ReactNode;
}

/** Callbacks may be new functions in each render; the latest ones are called. */
export interface WebSocketOptions<Data = JobData> extends Handlers<Data> {
  /** URL of the gateway's WebSocket, instead of the provider's. */
  url?: string | undefined;
  /** False: do not subscribe. The last snapshot stays, marked as stale. */
  enabled?: boolean | undefined;
}

export interface WebSocketResult<Data = JobData> extends Snapshot<Data> {
  /** Open a new connection now, also after the client gave up. Always the same function. */
  readonly reconnect: () => void;
}

interface Provided {
  readonly client: ProgressClient;
  /** The provider's URL; null if it is a function, or if the client is the page's own. */
  readonly url: string | null | undefined;
}

const ClientContext = createContext<Provided | undefined>(undefined);

function useClient(url: string | undefined): ProgressClient {
  const provided = useContext(ClientContext);
  const made = useMemo(() => clientFor({ url }), [url]); // connects only if it is used
  return provided && (url === undefined || url === provided.url) ? provided.client : made;
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

/** Gives one client, and so one connection, to all components inside. Providers with the same URL share it too. */
export function ProgressProvider({ client, children, ...options }: ProgressProviderProps): ReactNode {
  const latest = useLatest(options);
  const url = client || typeof options.url === "function" ? null : options.url;
  // Only a new `client` or URL makes a new client. Functions may be new in each render, so the latest one is called; the
  // other options stay as they first were.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the other options must not reconnect
  const made = useMemo(() => {
    const getUrl = () => (latest.current.url as () => string)();
    const getToken = () => latest.current.getToken?.();
    const hasToken = options.getToken && (true as const);
    const onError: ClientOptions["onError"] = (...args) => latest.current.onError?.(...args);
    const shared = { ...options, url: url === null ? getUrl : url, getToken, hasToken, onError };
    return { client: client ?? clientFor(shared), url };
  }, [client, url, latest]);
  return <ClientContext.Provider value={made}>{children}</ClientContext.Provider>;
}

/** What a component shows that watches nothing; with `enabled: false` also while another one watches the project. */
const DISABLED = { status: "disconnected", isStale: true } as const;

/** Of no project, and on a server. */
const noStore: ProjectStore = { subscribe: () => () => {}, getSnapshot: () => CONNECTING };

function useStore<Data>(
  projectId: string | null | undefined,
  url: string | undefined,
): [ProgressClient, ProjectStore<Data> | null] {
  const client = useClient(url);
  return [client, useMemo(() => (projectId ? client.project<Data>(projectId) : null), [client, projectId])];
}

/** Watch a project: its jobs, its events, and whether they are current. Null or undefined: watch nothing. */
export function useWebSocket<Data = JobData>(
  projectId: string | null | undefined,
  options: WebSocketOptions<Data> = {},
): WebSocketResult<Data> {
  const { url, enabled = true } = options;
  const [client, store] = useStore<Data>(projectId, url);
  const latest = useLatest(options);
  const { subscribe, getSnapshot } = useMemo((): ProjectStore<Data> => {
    if (!store) return noStore as ProjectStore<Data>;
    // Looked up at each call: without a callback, the client makes nothing for it.
    const handlers = {
      get onEvent() {
        return latest.current.onEvent;
      },
      get onTerminal() {
        return latest.current.onTerminal;
      },
    };
    const others = enabled ? handlers : { isPassive: true };
    return { ...store, subscribe: (onChange) => store.subscribe(onChange, others) };
  }, [store, enabled, latest]);
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, noStore.getSnapshot as () => Snapshot<Data>);
  return useMemo(
    () => ({ ...snapshot, ...(store && enabled ? undefined : DISABLED), reconnect: client.reconnect }),
    [snapshot, store, enabled, client],
  );
}

/** A part of a project's snapshot. Renders again only when `select` gives another object. */
function useSelected<Data, T>(
  projectId: string | null | undefined,
  options: Pick<WebSocketOptions, "url"> | undefined,
  select: (snapshot: Snapshot<Data>) => T | undefined,
): T | undefined {
  const [, store] = useStore<Data>(projectId, options?.url);
  const { subscribe, getSnapshot } = store ?? (noStore as unknown as ProjectStore<Data>);
  return useSyncExternalStore(
    subscribe,
    () => select(getSnapshot()),
    () => undefined,
  );
}

/** One job of a project; undefined while no event of it is known. Renders again only when that job changes. */
export const useJob = <Data = JobData>(
  projectId: string | null | undefined,
  jobId: string,
  options?: Pick<WebSocketOptions, "url">,
): Job<Data> | undefined => useSelected(projectId, options, ({ jobs }: Snapshot<Data>) => own(jobs, jobId));

/** One sentence of a job; undefined while no event of it is known. Renders again only when that sentence changes. */
export const useSentence = <Data = JobData>(
  projectId: string | null | undefined,
  jobId: string,
  sentenceId: string,
  options?: Pick<WebSocketOptions, "url">,
): JobState<Data> | undefined =>
  useSelected(projectId, options, ({ jobs }: Snapshot<Data>) => own(own(jobs, jobId)?.sentences, sentenceId));

/** The status of the connection that all projects of a client share. */
export function useConnectionStatus(options?: Pick<WebSocketOptions, "url">): ConnectionStatus {
  const client = useClient(options?.url);
  return useSyncExternalStore(client.subscribe, client.getStatus, () => "disconnected");
}
