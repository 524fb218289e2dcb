"use client";

import { ProgressProvider, useWebSocket, valuesOf } from "@progress-gateway/react";

interface Props {
  projectId: string;
  url: string;
  asksForToken: boolean;
}

/** The jobs of a project, by a connection of its own; `ProgressProvider` may as well stand around the whole app. */
export function Jobs({ projectId, url, asksForToken }: Props) {
  return (
    <ProgressProvider url={url} getToken={asksForToken ? getToken : undefined}>
      <List projectId={projectId} />
    </ProgressProvider>
  );
}

function List({ projectId }: { projectId: string }) {
  const { status, isStale, jobs } = useWebSocket(projectId);
  return (
    <section aria-busy={isStale}>
      <p role="status">{status}</p>
      <ul>
        {valuesOf(jobs).map((job) => (
          <li key={job.jobId}>
            <progress max={100} value={job.percent} /> {job.jobId}: {job.error ?? job.result?.file ?? job.message}
          </li>
        ))}
      </ul>
    </section>
  );
}

async function getToken(): Promise<string | null> {
  const answer = await fetch("/progress-token", { method: "POST" });
  if (answer.status === 401) return null; // nobody is signed in: do not ask again
  if (!answer.ok) throw new Error(`no token: HTTP ${answer.status}`);
  return answer.text();
}
