/** Servers that behave as no real gateway does in these tests: they ask clients to move, or are no gateways at all. */

import type { Duplex } from "node:stream";
import { expect } from "vitest";
import type { Job } from "../src/core.js";
import type { PanelProps } from "./app/App.js";
import type { Shown } from "./app/records.js";
import { test as bare } from "./support/lab.js";
import type { TestPage } from "./support/page.js";
import { complete, progress } from "./support/processes.js";
import { statuses } from "./support/read.js";
import { type Refusal, type ScriptedConnection, ScriptedGateway } from "./support/scripted.js";
import { until } from "./support/wait.js";

const LEAST_BACKOFF_MS = 500;
const TIMER_ERROR_MS = 50; // a browser rounds its timers, and the time to reach the server varies

const test = bare.extend("gateway", async ({ lab }) => lab.own(ScriptedGateway.start()));

const oneOn = (gateway: ScriptedGateway) => ({ url: gateway.url(), panels: [{ name: "one", projectId: "p" }] });

function only(connections: ScriptedConnection[]): ScriptedConnection {
  const [connection, ...others] = connections;
  if (!connection || others.length) throw new Error(`one connection is open, not ${connections.length}`);
  return connection;
}

test.concurrent("a replica that goes away: the page moves without a moment of not being connected", async ({
  lab,
  gateway,
}) => {
  const page = await lab.open({ ...oneOn(gateway), connection: "connection" });
  await page.untilStatus("connected");
  // The next replica answers the subscribe late: a page that had left the old one would lose the events until then.
  gateway.script("/ws", (connection) => {
    if (connection.count === 2) connection.send({ type: "connected", clientId: "slow" });
    else connection.speak();
  });
  const first = only(gateway.open());
  const before = gateway.publish("p", progress("job", 10));
  first.send({ type: "going_away", reconnectIn: [0, 50] });
  await until("the next connection asks to be subscribed", () => gateway.open()[1]?.received[0]);
  const during = gateway.publish("p", progress("job", 20)); // by the old connection
  await page.untilJob("job", 20);
  expect(gateway.open()).toHaveLength(2);
  const [, next] = gateway.open();
  expect(next?.received).toEqual([{ type: "subscribe", projectId: "p", since: before }]);

  next?.send({ type: "subscribed", projectId: "p", seq: during, recovered: true });
  next?.send({ ...progress("job", 20), projectId: "p", seq: during }); // newer than the cursor, so it comes again
  next?.projects.add("p");
  gateway.note("/ws#2 subscribed");
  await until("the old connection is left", () => first.closed);
  const after = gateway.publish("p", complete("job"));
  const panel = await page.untilJob("job", 100);
  expect(gateway.story.filter((what) => /subscribed|closed/.test(what))).toEqual([
    "/ws#1 subscribed",
    "/ws#2 subscribed",
    "/ws#1 closed",
  ]);
  expect(panel.events.map(({ seq }) => seq)).toEqual([before, during, after]);
  expect(panel.terminals).toHaveLength(1);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(panel.log.filter(({ isStale, status }) => isStale && status === "connected")).toEqual([]);
  const { log = [] } = (await page.records()).values["connection"] ?? {};
  expect(new Set(log.slice(log.indexOf("connected")))).toEqual(new Set(["connected"]));
  await until("one socket is left", () => page.openSockets.length === 1);
});

test.concurrent("a replica that goes away while the next one refuses is left when there is another", async ({
  lab,
  gateway,
}) => {
  const page = await lab.open(oneOn(gateway));
  await page.untilStatus("connected");
  gateway.refuse("/ws", 2, (socket) => socket.end("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n"));
  only(gateway.open()).send({ type: "going_away", reconnectIn: [0, 0] });
  await until("an attempt to move has failed", () => gateway.attempts().length === 2);
  gateway.publish("p", progress("job", 50));
  await page.untilJob("job", 50);
  await until("it has moved", () => gateway.connections[0]?.closed && gateway.open().length === 1);
  gateway.publish("p", complete("job"));
  const panel = await page.untilJob("job", 100);
  expect(statuses(panel)).toEqual(["connecting", "connected"]);
  expect(panel.result).toMatchObject({ error: null, retryAt: null, isStale: false });
});

test.concurrent("control: a replica that closes without asking is seen as a loss", async ({ lab, gateway }) => {
  const page = await lab.open(oneOn(gateway));
  await page.untilStatus("connected");
  only(gateway.open()).close(1012);
  await page.until("it is connected again", (panel) => statuses(panel).length > 3);
  await page.untilStatus("connected");
  expect(statuses(await page.panel())).toContain("disconnected");
});

/** One panel for each path, each with its own client. */
const panelsOf = (gateway: ScriptedGateway, paths: string[]): PanelProps[] =>
  paths.map((path) => ({ name: path, projectId: "p", url: gateway.url(path) }));

/** The times between the attempts to connect to a path. */
const gapsOf = (gateway: ScriptedGateway, path: string): number[] =>
  gateway.attempts(path).flatMap((at, i, all) => (i ? [at - all[i - 1]!] : []));

/**
 * Each path fails twice and then works. Checks that the error was shown, and that the page came back by itself but not
 * at once. Returns what was shown.
 */
async function expectTwoFailures(
  gateway: ScriptedGateway,
  page: TestPage,
  path: string,
  code: number | string,
): Promise<Shown[]> {
  const { log, result } = await page.untilStatus("connected", path);
  expect(gapsOf(gateway, path), path).toHaveLength(2);
  for (const gap of gapsOf(gateway, path)) expect(gap, path).toBeGreaterThan(LEAST_BACKOFF_MS - TIMER_ERROR_MS);
  const lost = log.filter(({ status }) => status === "disconnected");
  expect(lost.length, `${path} was shown as disconnected`).toBeGreaterThan(0);
  for (const shown of lost) expect(shown, path).toMatchObject({ error: code, isStale: true });
  expect(result, path).toMatchObject({ error: null, retryAt: null, isStale: false });
  return log;
}

test.concurrent("what is no gateway: an error, a try again with back-off, no exception in the page", async ({
  lab,
  gateway,
}) => {
  const answer = (text: string) => (socket: Duplex) => socket.end(text.replaceAll("\n", "\r\n"));
  const refusals: Record<string, Refusal> = {
    "/html": answer("HTTP/1.1 200 OK\nContent-Type: text/html\nConnection: close\n\n<!doctype html><h1>Sign in</h1>"),
    "/redirect": answer("HTTP/1.1 302 Found\nLocation: /login\nConnection: close\n\n"),
    "/full": answer("HTTP/1.1 503 Service Unavailable\nConnection: close\n\n"),
    "/liar": answer(
      "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: x\n\n",
    ),
    "/noise": answer("SSH-2.0-OpenSSH_9.2\n"),
    "/nothing": (socket) => socket.destroy(),
  };
  const paths = Object.keys(refusals);
  for (const path of paths) gateway.refuse(path, 2, refusals[path]!);
  const page = await lab.open({ panels: panelsOf(gateway, paths) });
  for (const path of paths) {
    const log = await expectTwoFailures(gateway, page, path, 1006);
    expect(log.slice(0, -1).map(({ status }) => status)).not.toContain("connected");
  }
});

test.concurrent("a page's own host that answers with HTML: an error, and a try again", async ({ lab }) => {
  const page = await lab.open({ panels: [{ name: "one", projectId: "p" }] });
  await page.until("it has tried", ({ result }) => result?.retryAt);
  const { result } = await page.until("it has tried twice", () => lab.pages.upgrades.length >= 2);
  expect(lab.pages.upgrades.slice(-2)).toEqual(["/ws", "/ws"]);
  expect(result).toMatchObject({ error: { code: 1006 }, isStale: true });
});

/** Connections to a path fail twice, and then work. */
function scriptTwice(gateway: ScriptedGateway, path: string, fail: (connection: ScriptedConnection) => void): void {
  gateway.script(path, (connection) => {
    connection.speak();
    if (connection.count <= 2) fail(connection);
  });
}

test.concurrent("odd close codes: an error with the code, and a try again with back-off", async ({ lab, gateway }) => {
  const codes = [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 3999, 4500, 4503, 4999];
  for (const code of codes) scriptTwice(gateway, `/${code}`, (connection) => connection.close(code));
  const page = await lab.open({
    panels: panelsOf(
      gateway,
      codes.map((code) => `/${code}`),
    ),
  });
  for (const code of codes) await expectTwoFailures(gateway, page, `/${code}`, code);
});

test.concurrent("a close code from 4000 to 4499 is not tried again unless the page asks for it", async ({
  lab,
  gateway,
}) => {
  const codes = [4000, 4400, 4401, 4499];
  for (const code of [...codes, 4999]) {
    gateway.script(`/${code}`, (connection) => {
      connection.speak();
      connection.close(code, "told why");
    });
  }
  const page = await lab.open({
    panels: panelsOf(
      gateway,
      [...codes, 4999].map((code) => `/${code}`),
    ),
  });
  for (const code of codes) {
    const { result } = await page.until(`${code} is shown`, ({ result }) => result?.error, { name: `/${code}` });
    expect(result).toMatchObject({ status: "disconnected", error: { code, message: "told why" }, retryAt: null });
  }
  await page.page.evaluate(() => {
    for (const type of ["online", "pageshow"]) window.dispatchEvent(new Event(type));
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  });
  // Control: a close code outside of this range was tried three times meanwhile.
  await until("the other one was tried three times", () => gateway.attempts("/4999").length >= 3);
  for (const code of codes) expect(gateway.attempts(`/${code}`), `${code}`).toHaveLength(1);

  gateway.script("/4401", (connection) => connection.speak());
  await page.page.click('[id="reconnect-/4401"]');
  const { result } = await page.untilStatus("connected", "/4401");
  expect(result).toMatchObject({ error: null });
});

test.concurrent("rubbish in frames: an error, a try again with back-off, no exception in the page", async ({
  lab,
  gateway,
}) => {
  const event = { type: "progress", projectId: "p", jobId: "job", jobType: "audio", progress: 1, seq: 5_000 };
  const rubbish: Record<string, string | Buffer | object> = {
    "/text": "hello",
    "/empty": "",
    "/half": '{"type": "progress", "projectId"',
    "/null": "null",
    "/number": "42",
    "/array": "[]",
    "/string": '"progress"',
    "/bytes": Buffer.from([0, 1, 2, 255]),
    "/html": "<!doctype html><h1>Bad gateway</h1>",
    "/untyped": { projectId: "p" },
    "/type": { type: 5 },
    "/nested": "[".repeat(100_000),
    "/no-progress": { ...event, progress: undefined },
    "/no-result": { ...event, type: "job_complete" },
    "/no-error": { ...event, type: "job_failed" },
    "/seq": { ...event, seq: "new" },
    "/percent": { ...event, progress: "half" },
    "/message": { ...event, message: { text: "hello" } },
    "/error": { ...event, type: "job_failed", error: ["out of memory"] },
    "/job": { ...event, jobId: 7 },
    "/window": { type: "going_away", reconnectIn: {} },
    "/subscribed": { type: "subscribed", projectId: "p", seq: null },
  };
  const paths = Object.keys(rubbish);
  for (const path of paths) scriptTwice(gateway, path, (connection) => connection.send(rubbish[path]!));
  const page = await lab.open({ panels: panelsOf(gateway, paths) });
  for (const path of paths) {
    const log = await expectTwoFailures(gateway, page, path, "bad_message");
    for (const { jobs } of log) expect(jobs, path).toEqual({});
  }
});

test.concurrent("messages of an unknown type: an error is shown, and the page goes on", async ({ lab, gateway }) => {
  const names = ["hologram", "", "constructor", "toString", "__proto__", "hasOwnProperty", "valueOf"];
  const unknown = names.map((type) => JSON.stringify({ type, projectId: "p", jobId: `of ${type}`, seq: 2_000 }));
  const page = await lab.open(oneOn(gateway));
  await page.untilStatus("connected");
  for (const text of unknown) only(gateway.open()).send(text);
  await page.until("the error is shown", ({ result }) => result?.error);
  gateway.publish("p", progress("job", 40));
  const { result, events } = await page.untilJob("job", 40);
  expect(result).toMatchObject({ status: "connected", error: { code: "unknown_type" } });
  expect(Object.keys(result?.jobs ?? {})).toEqual(["job"]);
  expect(events.map(({ type }) => type)).toEqual(["progress"]);
  expect(gateway.attempts()).toHaveLength(1);
});

test.concurrent("jobs with names that objects have already are jobs like others", async ({ lab, gateway }) => {
  const names = ["constructor", "toString", "hasOwnProperty", "__proto__"];
  const page = await lab.open({
    ...oneOn(gateway),
    jobs: names.map((jobId) => ({ name: `job ${jobId}`, projectId: "p", jobId })),
  });
  await page.untilStatus("connected");
  for (const name of names) expect((await page.records()).values[`job ${name}`]?.value).toBeNull();
  for (const jobId of names) {
    gateway.publish("p", { ...progress(jobId, 30), sentenceId: jobId });
    gateway.publish("p", complete(jobId));
  }
  const { events } = await page.until("all have ended", ({ terminals }) => terminals.length === names.length);
  expect(events).toHaveLength(2 * names.length);
  for (const name of names) {
    const value = async () => (await page.records()).values[`job ${name}`]?.value;
    await until(`${name} is shown`, async () => ((await value()) as Job | null)?.percent === 100);
    expect(await value()).toMatchObject({ jobId: name, isTerminal: true, sentences: { [name]: { percent: 30 } } });
  }
});

test.concurrent("a gateway that accepts and says nothing is never shown as connected", async ({ lab, gateway }) => {
  gateway.script("/ws", () => {});
  const page = await lab.open(oneOn(gateway));
  await until("it asks to be subscribed", () => gateway.open()[0]?.received[0]);
  expect((await page.panel()).result).toMatchObject({ status: "connecting", isStale: true });
});

test.concurrent("a page whose Content-Security-Policy forbids the gateway says so at once", async ({
  lab,
  gateway,
}) => {
  const page = await lab.open(oneOn(gateway), { csp: "connect-src 'none'" });
  const opened = Date.now();
  const { result } = await page.until("the error is shown", ({ result }) => result?.error);
  expect(result).toMatchObject({ status: "disconnected", error: { code: "cannot_connect" } });
  expect(result?.error?.message).toContain("Content-Security-Policy");
  expect(Date.now() - opened).toBeLessThan(8_000); // and not after the 10 s that a connection may take
  expect(gateway.attempts()).toEqual([]);
  expect(page.problems.filter((problem) => !problem.includes("Content Security Policy"))).toEqual([]);
  await page.page.close(); // it goes on trying, and the browser goes on complaining
  page.problems.length = 0;
});

test.concurrent("with the gateway in `connect-src` the page connects", async ({ lab, gateway }) => {
  const page = await lab.open(oneOn(gateway), { csp: `connect-src ${new URL(gateway.url()).origin}` });
  await page.untilStatus("connected");
});
