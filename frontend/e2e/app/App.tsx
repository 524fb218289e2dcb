/** The test page: components that use the hooks, and record each result. */

import { type ReactNode, useEffect, useLayoutEffect, useState } from "react";
import { flushSync } from "react-dom";
import { ProgressProvider, useConnectionStatus, useJob, useWebSocket, valuesOf } from "../../src/index.js";
import { handRecord, panelRecord, valueRecord } from "./records.js";

export interface PanelProps {
  name: string;
  projectId?: string | null;
  enabled?: boolean;
  url?: string;
}

interface JobProps {
  name: string;
  projectId: string;
  jobId: string;
}

interface HandProps {
  name: string;
  url: string;
  projectId: string;
  /** How each message reaches React: not at all, as a batched state update, or flushed at once. */
  shows?: "nothing" | "last" | "each";
}

export interface AppProps {
  /** The provider's url; without it there is no provider, and the page's own host is used. */
  url?: string;
  /** Where the provider's `getToken` fetches a token. */
  tokenUrl?: string;
  panels?: PanelProps[];
  jobs?: JobProps[];
  /** The name under which useConnectionStatus is recorded. */
  connection?: string;
  hands?: HandProps[];
  /** Render one component differently on the server and in the browser. */
  hasMismatch?: boolean;
}

/** Called after each commit. */
const useCommit = (commit: () => void): void => useLayoutEffect(commit);

function Panel({ name, projectId, enabled, url }: PanelProps): ReactNode {
  const record = panelRecord(name);
  const result = useWebSocket(projectId, {
    url,
    enabled,
    onEvent: (event) => record.events.push(event),
    onTerminal: (job, event) => record.terminals.push({ job, event }),
  });
  useCommit(() => {
    const { reconnect: _, ...snapshot } = result;
    const { status, isStale, recovered, error, jobs, lastEvent } = snapshot;
    record.result = snapshot;
    record.commits++;
    record.log.push({
      projectId,
      status,
      isStale,
      recovered,
      error: error?.code ?? null,
      jobs: Object.fromEntries(valuesOf(jobs).map((job) => [job.jobId, job.percent])),
      lastSeq: lastEvent?.seq ?? null,
    });
  });
  const rows = valuesOf(result.jobs).map((job) => (
    <li key={job.jobId}>
      <progress max={100} value={job.percent} /> {job.jobId} {job.status} {job.error ?? job.result?.file ?? job.message}
    </li>
  ));
  return (
    <section>
      <h2>
        {name}: {result.status} {result.isStale && "(may be old)"} {result.error?.message}
      </h2>
      <ul>{rows}</ul>
      <button id={`reconnect-${name}`} type="button" onClick={result.reconnect}>
        Connect again
      </button>
    </section>
  );
}

function useValueRecord(name: string, value: unknown): void {
  useCommit(() => {
    const record = valueRecord(name);
    record.value = value ?? null;
    record.commits++;
    record.log.push(record.value);
  });
}

function OneJob({ name, projectId, jobId }: JobProps): ReactNode {
  const job = useJob(projectId, jobId);
  useValueRecord(name, job);
  return <p>{job ? `${job.jobId}: ${job.percent} %` : "nothing known"}</p>;
}

function Connection({ name }: { name: string }): ReactNode {
  const status = useConnectionStatus();
  useValueRecord(name, status);
  return <p>{status}</p>;
}

/** A control: a page that opens its WebSocket itself, reconnects after a while, and sends no cursor. */
function Hand({ name, url, projectId, shows = "nothing" }: HandProps): ReactNode {
  const [last, setLast] = useState("");
  useEffect(() => {
    const record = handRecord(name);
    let isLeft = false;
    let socket: WebSocket;
    const connect = (): void => {
      record.sockets++;
      socket = new WebSocket(url);
      socket.onopen = () => {
        record.isOpen = true;
        socket.send(JSON.stringify({ type: "subscribe", projectId }));
      };
      socket.onmessage = ({ data }) => {
        record.messages.push(JSON.parse(data));
        if (shows === "last") setLast(data);
        if (shows === "each") flushSync(() => setLast(data));
      };
      socket.onclose = () => {
        record.isOpen = false;
        if (!isLeft) setTimeout(connect, 300);
      };
    };
    connect();
    return () => {
      isLeft = true;
      socket.close();
    };
  }, [name, url, projectId, shows]);
  useCommit(() => {
    handRecord(name).commits++;
  });
  return <p>{last}</p>;
}

function Parts({ panels = [], jobs = [], connection, hands = [], hasMismatch = false }: AppProps): ReactNode {
  return (
    <>
      {panels.map((panel) => (
        <Panel key={panel.name} {...panel} />
      ))}
      {jobs.map((job) => (
        <OneJob key={job.name} {...job} />
      ))}
      {connection && <Connection name={connection} />}
      {hands.map((hand) => (
        <Hand key={hand.name} {...hand} />
      ))}
      {hasMismatch && <p>{typeof window === "undefined" ? "server" : "browser"}</p>}
    </>
  );
}

export function App({ url, tokenUrl, ...parts }: AppProps): ReactNode {
  const getToken = tokenUrl ? async () => (await fetch(tokenUrl)).text() : undefined;
  return url === undefined ? (
    <Parts {...parts} />
  ) : (
    <ProgressProvider url={url} getToken={getToken}>
      <Parts {...parts} />
    </ProgressProvider>
  );
}
