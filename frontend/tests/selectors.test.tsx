/** `useJob` and `useConnectionStatus`: components that render only for what they show. */

import { render } from "@testing-library/react";
import { Profiler, type ReactNode } from "react";
import { expect, test } from "vitest";
import {
  type ConnectionStatus,
  type Job,
  ProgressProvider,
  useConnectionStatus,
  useJob,
  useSentence,
} from "../src/index.js";
import {
  advance,
  complete,
  LINGER_MS,
  noted,
  progress,
  RETRY_MS,
  subscribe,
  unsubscribe,
  watcher,
  withClock,
} from "./react-support.js";

withClock();

/** A component that shows one job and notes it in each of its renders. */
function jobWatcher() {
  const seen: (Job | undefined)[] = [];
  const WatchJob = ({ id, jobId }: { id: string | null | undefined; jobId: string }) => {
    const job = useJob(id, jobId);
    seen.push(job);
    return <output>{job ? `${job.percent} %` : "unknown"}</output>;
  };
  return { WatchJob, seen, last: () => seen.at(-1) };
}

function page(children: ReactNode, wire = noted()) {
  const client = wire.client();
  const element = (inside: ReactNode) => <ProgressProvider client={client}>{inside}</ProgressProvider>;
  const { rerender, ...rest } = render(element(children));
  return { ...wire, ...rest, show: (inside: ReactNode) => rerender(element(inside)) };
}

// useJob

test("useJob shows the progress of a job, and subscribes its project", async () => {
  const { WatchJob, last } = jobWatcher();
  const { container, gateway, sent, unmount } = page(<WatchJob id="project_1" jobId="job_1" />);
  expect(last()).toBeUndefined();
  await advance();
  gateway.publish("project_1", progress("job_1", 40));
  await advance();
  expect(container.textContent).toBe("40 %");
  gateway.publish("project_1", complete("job_1"));
  await advance();
  expect(last()).toMatchObject({ jobId: "job_1", status: "complete", percent: 100, isTerminal: true });
  unmount();
  await advance(LINGER_MS);
  expect(sent).toEqual([subscribe("project_1"), unsubscribe("project_1")]);
  expect(gateway.connections).toEqual([]);
});

test("a component renders again only when its job changes", async () => {
  const one = jobWatcher();
  const two = jobWatcher();
  const { gateway } = page(
    <>
      <one.WatchJob id="project_1" jobId="job_1" />
      <two.WatchJob id="project_1" jobId="job_2" />
    </>,
  );
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  gateway.publish("project_1", progress("job_2", 10));
  await advance();
  const before = [one.seen.length, two.seen.length] as const;
  for (let percent = 20; percent <= 60; percent += 10) {
    gateway.publish("project_1", progress("job_1", percent));
    await advance();
  }
  gateway.publish("project_1", progress("job_3", 50)); // a new one
  await advance();
  gateway.setStale(true);
  await advance();
  gateway.closeAll();
  await advance(RETRY_MS);
  expect(one.seen.length - before[0]).toBe(5);
  expect(two.seen.length - before[1]).toBe(0);
  expect(one.last()?.percent).toBe(60);
});

test("until its job is known a component renders once, whatever other jobs do", async () => {
  const { WatchJob, seen } = jobWatcher();
  const { gateway } = page(<WatchJob id="project_1" jobId="job_1" />);
  await advance();
  for (let n = 0; n < 10; n++) {
    gateway.publish("project_1", progress("other", n));
    await advance();
  }
  expect(seen).toEqual([undefined]);
});

test("of 1,000 jobs in a list only the one that changed renders", async () => {
  const { gateway } = noted();
  let commits = 0;
  const client = gateway.client();
  const ids = Array.from({ length: 1_000 }, (_, n) => `job_${n}`);
  for (const id of ids) gateway.publish("project_1", progress(id, 1));
  const Row = ({ jobId }: { jobId: string }) => <li>{useJob("project_1", jobId)?.percent}</li>;
  render(
    <ProgressProvider client={client}>
      {ids.map((id) => (
        <Profiler key={id} id={id} onRender={() => commits++}>
          <Row jobId={id} />
        </Profiler>
      ))}
    </ProgressProvider>,
  );
  await advance();
  const before = commits;
  gateway.publish("project_1", progress("job_7", 50));
  await advance();
  expect(commits - before).toBe(1);
});

test.each(["unknown", "", "constructor", "toString", "__proto__", "hasOwnProperty"])(
  "a job %j that is not known is undefined",
  async (jobId) => {
    const { WatchJob, seen } = jobWatcher();
    const { gateway } = page(<WatchJob id="project_1" jobId={jobId} />);
    await advance();
    gateway.publish("project_1", progress("job_1", 10));
    await advance();
    for (const job of seen) expect(job).toBeUndefined();
  },
);

test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])("a job may be called %j", async (jobId) => {
  const { WatchJob, last } = jobWatcher();
  const whole = watcher();
  const { gateway } = page(
    <>
      <WatchJob id="project_1" jobId={jobId} />
      <whole.Watch id="project_1" />
    </>,
  );
  await advance();
  gateway.publish("project_1", progress(jobId, 10));
  await advance();
  expect(last()).toMatchObject({ jobId, percent: 10 });
  expect(Object.keys(whole.last().jobs)).toEqual([jobId]);
});

test.each([null, undefined, "", "not an id"])("useJob of project %j is undefined, and no socket", async (id) => {
  const { WatchJob, seen } = jobWatcher();
  const { urls } = page(<WatchJob id={id} jobId="job_1" />);
  await advance(5_000);
  expect(urls).toEqual([]);
  for (const job of seen) expect(job).toBeUndefined();
});

test("another jobId or projectId shows the other job in the very first render", async () => {
  const { WatchJob, seen } = jobWatcher();
  const { gateway, show, sent } = page(<WatchJob id="project_1" jobId="job_1" />);
  gateway.publish("project_1", progress("job_1", 10));
  gateway.publish("project_1", progress("job_2", 20));
  gateway.publish("project_2", progress("job_2", 30));
  await advance();
  const counts = [seen.length];
  show(<WatchJob id="project_1" jobId="job_2" />);
  expect(seen.slice(counts[0]).map((job) => job?.percent)).toEqual([20]);
  counts.push(seen.length);
  show(<WatchJob id="project_2" jobId="job_2" />);
  expect(seen[counts[1]!]).toBeUndefined();
  await advance();
  expect(seen.at(-1)?.percent).toBe(30);
  expect(sent).toEqual([subscribe("project_1"), subscribe("project_2")]);
});

test("useJob and useWebSocket share the socket, the subscription and the job objects", async () => {
  const { WatchJob, last } = jobWatcher();
  const whole = watcher();
  const { gateway, sent, urls } = page(
    <>
      <whole.Watch id="project_1" />
      <WatchJob id="project_1" jobId="job_1" />
    </>,
  );
  await advance();
  gateway.publish("project_1", progress("job_1", 10));
  await advance();
  expect(last()).toBe(whole.last().jobs["job_1"]);
  expect(last()).toBeDefined();
  expect(sent).toEqual([subscribe("project_1")]);
  expect(urls).toHaveLength(1);
});

// useConnectionStatus

function statusWatcher() {
  const seen: ConnectionStatus[] = [];
  const WatchStatus = () => {
    const status = useConnectionStatus();
    seen.push(status);
    return <output>{status}</output>;
  };
  return { WatchStatus, seen };
}

test("useConnectionStatus alone connects nothing", async () => {
  const { WatchStatus, seen } = statusWatcher();
  const { urls } = page(<WatchStatus />);
  await advance(5_000);
  expect(seen).toEqual(["disconnected"]);
  expect(urls).toEqual([]);
});

test("useConnectionStatus follows the connection, and renders only when it changes", async () => {
  const { WatchStatus, seen } = statusWatcher();
  const { Watch } = watcher();
  const wire = noted();
  const client = wire.client({ getToken: () => new Promise((resolve) => setTimeout(() => resolve("t"), 100)) });
  const element = (isWatched: boolean) => (
    <ProgressProvider client={client}>
      <WatchStatus />
      {isWatched && <Watch id="project_1" />}
      {isWatched && <Watch id="project_2" />}
    </ProgressProvider>
  );
  const { rerender } = render(element(true));
  await advance(200);
  expect(seen).toEqual(["disconnected", "connecting", "connected"]);
  wire.gateway.publish("project_1", progress("job_1", 10));
  wire.gateway.setStale(true);
  await advance(1_000);
  expect(seen).toHaveLength(3);
  wire.gateway.closeAll(1012);
  await advance();
  expect(seen.slice(3)).toEqual(["disconnected"]);
  await advance(RETRY_MS + 200);
  expect(seen.slice(3)).toEqual(["disconnected", "connecting", "connected"]);
  rerender(element(false)); // one more render, without a change
  await advance(LINGER_MS);
  expect(seen.slice(6)).toEqual(["connected", "disconnected"]);
});

test("useConnectionStatus is the same for all components, however early or late they mount", async () => {
  const early = statusWatcher();
  const late = statusWatcher();
  const { Watch } = watcher();
  const { show, gateway } = page(
    <>
      <early.WatchStatus />
      <Watch id="project_1" />
    </>,
  );
  await advance();
  show(
    <>
      <early.WatchStatus />
      <Watch id="project_1" />
      <late.WatchStatus />
    </>,
  );
  expect(late.seen).toEqual(["connected"]);
  gateway.closeAll(4401);
  await advance();
  expect(early.seen.at(-1)).toBe("disconnected");
  expect(late.seen.at(-1)).toBe("disconnected");
});

// useSentence

test("useSentence renders when its own sentence changes, and not for others of the job", async () => {
  const seen: (number | undefined)[] = [];
  const Sentence = ({ id }: { id: string }) => {
    const sentence = useSentence("project_1", "job_1", id);
    seen.push(sentence?.percent);
    return <output>{sentence?.percent ?? "unknown"}</output>;
  };
  const { gateway, container } = page(<Sentence id="s1" />);
  await advance();
  const say = async (sentenceId: string, percent: number) => {
    gateway.publish("project_1", { ...progress("job_1", percent), sentenceId });
    await advance();
  };
  await say("s2", 10);
  expect(seen).toEqual([undefined]);
  await say("s1", 20);
  for (let n = 0; n < 5; n++) await say(`s${n + 2}`, 30 + n);
  gateway.publish("project_1", progress("job_1", 50));
  await advance();
  expect(seen).toEqual([undefined, 20]);
  await say("s1", 60);
  expect(seen).toEqual([undefined, 20, 60]);
  expect(container.textContent).toBe("60");
});

test.each(["constructor", "__proto__", "toString"])(
  "a sentence that is called %s is known only if it is there",
  async (id) => {
    const Sentence = () => <output>{useSentence("project_1", "job_1", id)?.percent ?? "unknown"}</output>;
    const { gateway, container } = page(<Sentence />);
    await advance();
    gateway.publish("project_1", { ...progress("job_1", 10), sentenceId: "s1" });
    await advance();
    expect(container.textContent).toBe("unknown");
    gateway.publish("project_1", { ...progress("job_1", 20), sentenceId: id });
    await advance();
    expect(container.textContent).toBe("20");
  },
);
