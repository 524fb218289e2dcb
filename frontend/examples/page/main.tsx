import { useWebSocket, valuesOf } from "@progress-gateway/react";
import { createRoot } from "react-dom/client";

function Jobs({ projectId }: { projectId: string }) {
  const { status, isStale, jobs } = useWebSocket(projectId, { url: "ws://127.0.0.1:3001/ws" });
  const bars = valuesOf(jobs).map((job) => (
    <li key={job.jobId}>
      <progress max={100} value={job.percent} /> {job.jobId}: {job.error ?? job.result?.file ?? job.message}
    </li>
  ));
  return (
    <main aria-busy={isStale}>
      {status} <ul>{bars}</ul>
    </main>
  );
}

createRoot(document.getElementById("root")!).render(<Jobs projectId="demo" />);
