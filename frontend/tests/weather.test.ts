/** Not one fault but many, in any order: when the weather clears, everybody must know the truth. */

import { expect, test, vi } from "vitest";
import type { PublishedEvent } from "../src/testing.js";
import { FakeGateway } from "../src/testing.js";
import { advance, onPage, P, pseudoRandom, Q, setOnline, type Watcher, watch, withFakeTime } from "./support.js";

withFakeTime();

interface Truth {
  attempt: number;
  percent: number;
  status: "running" | "complete" | "failed";
}

/** What a worker may publish next of a job, and what is true then. */
function nextOf(job: Truth | undefined, random: () => number): [Truth, PublishedEvent] {
  const isNew = job?.status !== "running";
  const attempt = (job?.attempt ?? 0) + (job && isNew ? 1 : 0);
  const chance = random();
  const common = { jobId: "", jobType: "audio", attempt } as const;
  if (isNew || chance < 0.7) {
    const percent = isNew ? Math.floor(random() * 50) : Math.min(100, job.percent + Math.floor(random() * 20));
    return [
      { attempt, percent, status: "running" },
      { ...common, type: "progress", progress: percent },
    ];
  }
  return chance < 0.85
    ? [
        { attempt, percent: 100, status: "complete" },
        { ...common, type: "job_complete", result: {} },
      ]
    : [
        { attempt, percent: job.percent, status: "failed" },
        { ...common, type: "job_failed", error: "broke" },
      ];
}

async function storm(seed: number): Promise<void> {
  const random = pseudoRandom(seed);
  vi.spyOn(Math, "random").mockImplementation(random);
  const pick = <T>(...all: T[]): T => all[Math.floor(random() * all.length)]!;
  const gateway = new FakeGateway();
  const client = gateway.client();
  const watchers: [string, Watcher, Map<string, Truth>][] = [P, Q].map((id) => [id, watch(client, id), new Map()]);
  const visitors: Watcher[] = [];
  const publish = (): void => {
    const [projectId, , truth] = pick(...watchers);
    const jobId = `job_${Math.floor(random() * 6)}`;
    const [now, event] = nextOf(truth.get(jobId), random);
    truth.set(jobId, now);
    gateway.publish(projectId, { ...event, jobId });
  };
  const faults = [
    () => gateway.closeAll(pick(1001, 1006, 1012, 4500)),
    () => gateway.connections[0]?.close(1006),
    () => gateway.goAway(pick<[number, number]>([0, 0], [0, 5], [0, 2_000])),
    () => void (gateway.isUp = !gateway.isUp),
    () => void (gateway.isAnswering = !gateway.isAnswering),
    () => gateway.setStale(pick(true, false)),
    () => onPage(pick("online", "offline", "pageshow", "visibilitychange")),
    () => setOnline(pick(true, true, false)),
    () => void vi.setSystemTime(Date.now() + pick(7_000, 60_000, 3_600_000)),
    () => client.reconnect(),
    () => gateway.connections[0]?.send(pick("rubbish", "null", '{"type":"progress"}')),
    () => void visitors.push(watch(client, pick(P, Q, "project_3"), pick(true, false))),
    () => visitors.pop()?.leave(),
  ];
  for (let step = 0; step < 120; step++) {
    if (random() < 0.5) publish();
    else pick(...faults)();
    const wait = pick(-1, -1, 0, 1, 5, 20, 300, 1_000, 4_000);
    await (wait < 0 ? Promise.resolve() : advance(wait));
    expect(gateway.connections.length, `seed ${seed}`).toBeLessThanOrEqual(3); // one may be closing
  }
  gateway.isUp = gateway.isAnswering = true;
  gateway.setStale(false);
  setOnline(true);
  onPage("online");
  await advance(90_000);

  expect(gateway.connections, `seed ${seed}`).toHaveLength(1);
  for (const [, watcher, truth] of watchers) {
    const calm = { status: "connected", isStale: false, staleSince: null, recovered: true, error: null, retryAt: null };
    expect(watcher.now, `seed ${seed}`).toMatchObject(calm);
    const seqs = watcher.events.map(({ seq }) => seq);
    expect(new Set(seqs).size, `seed ${seed}: events twice`).toBe(seqs.length);
    for (const [jobId, { percent, ...rest }] of truth) {
      const job = watcher.job(jobId);
      expect(job, `seed ${seed} ${jobId}`).toMatchObject(rest);
      if (rest.status !== "failed") expect(job.percent, `seed ${seed} ${jobId}`).toBe(percent); // the last may be missed
      const ends = watcher.ends.filter((end) => end.job.jobId === jobId).map(({ event }) => event.attempt);
      expect(new Set(ends).size, `seed ${seed} ${jobId}: ends twice`).toBe(ends.length);
      if (rest.status !== "running") expect(ends, `seed ${seed} ${jobId}: end untold`).toContain(rest.attempt);
      expectOrder(watcher, jobId);
    }
  }
  for (const { leave } of [...visitors, ...watchers.map(([, watcher]) => watcher)]) leave();
  await advance(1_500);
  expect([gateway.connections.length, vi.getTimerCount()], `seed ${seed}: left over`).toEqual([0, 0]);
}

/** Attempts only rise, and within one percents only rise and an end is final. */
function expectOrder({ snapshots }: Watcher, jobId: string): void {
  const ranks = snapshots.flatMap(({ jobs: { [jobId]: job } }) =>
    job ? [job.attempt! * 1_000 + (job.isTerminal ? 500 : 0) + job.percent] : [],
  );
  expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
}

test("whatever happens to the network, the gateway and the machine, in the end each page shows the truth", async () => {
  for (let seed = 1; seed <= 60; seed++) await storm(seed);
}, 60_000); // the storms take seconds of work: the usual bound would ask for a fast machine
