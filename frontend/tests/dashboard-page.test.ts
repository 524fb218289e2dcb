/** The page at `/` as a whole, against the gateway in memory; e2e/ has it in a real browser. */

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { Announcer, endsText } from "../dashboard/announcer.js";
import { describe as describeReplica, Replica } from "../dashboard/replica.js";
import { FakeGateway } from "../src/testing.js";
import { $, advance, cardOf, HERE, job, read, texts, withPage } from "./dashboard-support.js";

withPage();

test("gateway/static/dashboard.js is the build's own output", () => {
  // In a process of its own: esbuild wants no part of a page around it.
  const print = `import { dashboard } from "./scripts/dashboard.mjs"; process.stdout.write(await dashboard())`;
  const node = ["--input-type=module", "-e", print];
  const built = execFileSync(process.execPath, node, { cwd: join(HERE, ".."), encoding: "utf8" });
  expect(read("dashboard.js") === built, "run `npm run dashboard` and commit what it writes").toBe(true);
  expect(built).not.toContain("sourceMappingURL");
});

test("the page brings nothing that its Content-Security-Policy forbids", () => {
  const page = read("index.html");
  expect(page).not.toMatch(/ style=| on[a-z]+=|<style|<script(?![^>]* src="static\/)/);
  expect(read("dashboard.js")).not.toMatch(/innerHTML|insertAdjacentHTML|\beval\(|setAttribute\("style/);
});

describe("what is said aloud", () => {
  const region = (): string => $("#announcer").textContent ?? "";

  test("names one or two jobs, and counts more", () => {
    const [a, b] = [job("a", { status: "complete" }), job("b", { status: "failed" })];
    expect(endsText([a])).toBe("audio a complete");
    expect(endsText([a, b])).toBe("audio a complete, audio b failed");
    expect(endsText([a, b, a])).toBe("2 jobs complete, 1 failed");
    expect(endsText([a, a, a])).toBe("3 jobs complete");
    expect(endsText([b, b, b])).toBe("3 jobs failed");
  });

  test("comes at most every ten seconds", async () => {
    const announcer = new Announcer($("#announcer"));
    announcer.onEnd(job("a", { status: "complete" }));
    await advance(1_900);
    expect(region()).toBe("");
    await advance(200);
    expect(region()).toBe("audio a complete.");
    for (let index = 0; index < 5; index++) announcer.onEnd(job("b", { status: "complete" }));
    await advance(9_000);
    expect(region()).toBe("audio a complete.");
    await advance(1_100);
    expect(region()).toBe("5 jobs complete.");
  });

  test("tells a loss once for all projects, but not one that is soon over, nor that all is well at first", async () => {
    const announcer = new Announcer($("#announcer"));
    for (const project of ["a", "b"]) announcer.onState(project, "connected");
    announcer.onState("a", "disconnected");
    announcer.onState("a", "connected");
    await advance(60_000);
    expect(region()).toBe("");
    for (const project of ["a", "b"]) announcer.onState(project, "disconnected");
    await advance(2_100);
    expect(region()).toBe("Disconnected.");
    announcer.forget("b");
    announcer.onState("a", "stale");
    await advance(10_100);
    expect(region()).toBe("What you see may be out of date.");
  });
});

describe("this replica", () => {
  const ready = { ready: true, draining: false, redis: "live", clients: 3 };

  test("is described in a few words", () => {
    expect(describeReplica(ready)).toEqual({ state: "ready", text: "3 clients · feed live" });
    expect(describeReplica(null)).toEqual({ state: "unreachable", text: "unreachable" });
    const words = (more: object): string => describeReplica({ ...ready, ready: false, ...more }).text;
    expect(words({ clients: 1, redis: "down" })).toBe("1 client · feed lost");
    expect(words({ draining: true })).toBe("3 clients · feed live · shutting down");
    expect(words({})).toBe("3 clients · feed live · no events arrive");
    expect(words({ redis: "constructor" })).toBe("3 clients · feed constructor");
    // What strangers are told.
    expect(describeReplica({ ready: true, draining: false })).toEqual({ state: "ready", text: "ready" });
    expect(describeReplica({ ready: false, draining: false })).toEqual({ state: "unready", text: "not ready" });
    expect(describeReplica({ ready: false, draining: true })).toEqual({ state: "unready", text: "shutting down" });
  });

  test("is asked every five seconds while somebody looks, and may be unreachable", async () => {
    const answers: (() => Promise<unknown>)[] = [
      async () => ready,
      async () => ({ ...ready, ready: false, redis: "down" }), // with 503
      async () => null,
      async () => Promise.reject(new SyntaxError("HTML")),
    ];
    const fetch = vi.fn(async () => ({ json: answers[fetch.mock.calls.length - 1] ?? answers[0] }));
    vi.stubGlobal("fetch", fetch);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(false);
    new Replica($("#replica"), $("#replica-text")).poll();
    await advance();
    expect($("#replica-text").textContent).toBe("3 clients · feed live");
    await advance(5_000);
    expect([$("#replica").dataset["state"], $("#replica-text").textContent]).toEqual([
      "unready",
      "3 clients · feed lost",
    ]);
    await advance(5_000);
    expect($("#replica-text").textContent).toBe("unreachable");
    await advance(5_000);
    expect($("#replica-text").textContent).toBe("unreachable");
    hidden.mockReturnValue(true);
    document.dispatchEvent(new Event("visibilitychange"));
    await advance(60_000);
    expect(fetch).toHaveBeenCalledTimes(4);
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event("visibilitychange"));
    await advance();
    expect($("#replica-text").textContent).toBe("3 clients · feed live");
    hidden.mockReturnValue(true);
    document.dispatchEvent(new Event("visibilitychange"));
  });
});

test("the whole page: several projects by link, by form and by the back button, on one socket", async () => {
  const gateway = new FakeGateway();
  vi.stubGlobal("WebSocket", gateway.WebSocket);
  vi.stubGlobal("fetch", async () => ({
    json: async () => ({ ready: true, draining: false, redis: "live", clients: 1 }),
  }));
  history.replaceState(null, "", "/?project=a&project=b");
  for (const project of ["a", "a", "b"]) {
    gateway.publish(project, { type: "progress", jobId: `${project}_1`, jobType: "image", progress: 10 });
  }
  await import("../dashboard/main.js");
  await advance(100);
  expect(texts(".name")).toEqual(["a", "b"]);
  expect(document.title).toBe("(2) a, b · Progress Gateway");
  expect(gateway.connections).toHaveLength(1);

  const input = $<HTMLInputElement>("#project");
  const submit = (text: string): void => {
    input.value = text;
    $("#pick").dispatchEvent(new Event("submit", { cancelable: true }));
  };
  const kept = cardOf("a_1");
  submit(" c ");
  await advance(100);
  expect([texts(".name"), location.search]).toEqual([["a", "b", "c"], "?project=a&project=b&project=c"]);
  expect([input.value, document.activeElement?.textContent, cardOf("a_1") === kept]).toEqual(["", "c", true]);
  submit("no id");
  submit("c");
  expect(texts(".name")).toEqual(["a", "b", "c"]);

  document.querySelector<HTMLElement>('[aria-label="Remove b"]')!.click();
  await advance(1_500);
  expect([texts(".name"), location.search]).toEqual([["a", "c"], "?project=a&project=c"]);
  expect([document.activeElement?.textContent, document.title]).toEqual(["c", "(1) a, c · Progress Gateway"]);
  expect([...gateway.connections[0]!.projects]).toEqual(["a", "c"]);

  history.replaceState(null, "", "/?project=b");
  dispatchEvent(new Event("popstate"));
  await advance(1_500);
  expect([texts(".name"), $(".remove").hidden]).toEqual([["b"], true]);
  expect([...gateway.connections[0]!.projects]).toEqual(["b"]);

  input.value = "typed";
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  expect(input.value).toBe("");
  expect(gateway.attempts).toBe(1);
});
