/** A worker that is killed, as the dashboard shows it: a real `track_job` in a real process. */

import { expect } from "vitest";
import { test } from "./support/lab.js";
import { Worker } from "./support/processes.js";

const HEARTBEAT_SECONDS = 1;
const NEXT_WITHIN_MS = 2 * HEARTBEAT_SECONDS * 1_000;

const workerOn = (heartbeat: string): string => `
import time
from publisher import track_job
with track_job("killed", "job_7", "video", heartbeat=${heartbeat}) as job:
    job.progress(42, "rendering")
    time.sleep(600)
`;

test("the dashboard shows a killed worker as silent when its promised event is overdue", async ({ lab, stack }) => {
  const worker = await lab.own(new Worker(stack.redis, workerOn(String(HEARTBEAT_SECONDS))));
  const dashboard = await lab.openDashboard(stack.replica, "killed");
  await dashboard.getByText("42 %").waitFor();
  // While it lives, it renews its promise.
  await dashboard.waitForTimeout(2 * NEXT_WITHIN_MS);
  expect(await dashboard.getByText(/silent for/).count()).toBe(0);

  await worker.kill();
  const killedAt = Date.now();
  await dashboard.getByText(/silent for/).waitFor();
  lab.figure(
    `a killed worker is called silent ${Date.now() - killedAt} ms after its end, promised: ${NEXT_WITHIN_MS} ms`,
  );
  expect(await dashboard.getByText("42 %").count()).toBe(1);
});

test("control: a worker that promises nothing is never shown as silent", async ({ lab, stack }) => {
  const worker = await lab.own(new Worker(stack.redis, workerOn("None").replaceAll('"killed"', '"missed"')));
  const dashboard = await lab.openDashboard(stack.replica, "missed");
  await dashboard.getByText("42 %").waitFor();
  await worker.kill();
  await dashboard.waitForTimeout(2 * NEXT_WITHIN_MS);
  expect(await dashboard.getByText(/silent for/).count()).toBe(0);
});
