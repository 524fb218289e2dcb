/** The page at `/`, in parts and as a whole, against the gateway in memory; e2e/ has it in a real browser. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { isProjectId, readProjects, title, writeProjects } from "../dashboard/address.js";
import { Announcer, ends } from "../dashboard/announcer.js";
import { Card, icon, promise } from "../dashboard/card.js";
import { keepFocus, place, setHidden } from "../dashboard/dom.js";
import { Panel } from "../dashboard/panel.js";
import { describe as describeReplica, Replica } from "../dashboard/replica.js";
import { inOrder, tally } from "../dashboard/sentences.js";
import { arrange, changed, countRunning, EMPTY, shown } from "../dashboard/shelves.js";
import {
  duration,
  look,
  notice,
  outcome,
  overdue,
  percent,
  silence,
  standing,
  story,
  time,
} from "../dashboard/words.js";
import type { Job, JobState, ProgressClient, Snapshot } from "../src/core.js";
import { FakeGateway } from "../src/testing.js";

const HERE = import.meta.dirname;
const NOW = new Date(2026, 0, 1, 12, 0, 0).getTime();

const read = (name: string): string => readFileSync(join(HERE, "../../gateway/static", name), "utf8");

const job = (jobId: string, more: Partial<Job> = {}): Job => {
  const status = more.status ?? "running";
  const base = {
    jobId,
    jobType: "audio",
    status,
    percent: 40,
    updatedAt: NOW,
    isSilent: false,
    sentences: {},
  } as const;
  return { ...base, isTerminal: status !== "running", ...more };
};
const sentence = (more: Partial<JobState> = {}): JobState => job("j", more as Partial<Job>);
const jobs = (...all: Job[]): Snapshot["jobs"] => Object.fromEntries(all.map((one) => [one.jobId, one]));
const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  status: "connected",
  lastEvent: null,
  events: [],
  jobs: {},
  isStale: false,
  staleSince: null,
  recovered: true,
  error: null,
  retryAt: null,
  ...more,
});

/** index.html as a browser has it, without its script. */
function openPage(): void {
  const [, body] = /<body>([\s\S]*)<\/body>/.exec(read("index.html"))!;
  document.body.innerHTML = body!.replace(/<noscript>[\s\S]*?<\/noscript>/, "");
}

const $ = <E extends Element = HTMLElement>(selector: string): E => {
  const element = document.querySelector<E>(selector);
  if (!element) throw new Error(`no ${selector} in ${document.body.innerHTML}`);
  return element;
};
const texts = (selector: string): string[] =>
  [...document.querySelectorAll(selector)].map((element) => (element.textContent ?? "").trim());
const cardOf = (jobId: string): HTMLElement =>
  [...document.querySelectorAll<HTMLElement>(".card")].find(
    (card) => card.querySelector(".id")?.textContent === jobId,
  )!;

/** Until all that is under way has arrived and is drawn. */
const advance = async (ms = 20): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  openPage();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

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
  expect(page).not.toMatch(/ style=| on[a-z]+=|<style|<script(?![^>]* src="\/static\/)/);
  expect(read("dashboard.js")).not.toMatch(/innerHTML|insertAdjacentHTML|\beval\(|setAttribute\("style/);
});

describe("the address", () => {
  test("names one or several projects, each once, and demo if none", () => {
    expect(readProjects("")).toEqual(["demo"]);
    expect(readProjects("?project=&other=1")).toEqual(["demo"]);
    expect(readProjects("?project=a")).toEqual(["a"]);
    expect(readProjects("?project=a&project=b:1&project=a&project=%20c%20")).toEqual(["a", "b:1", "c"]);
    expect(readProjects(writeProjects(["a", "b:1", "x y&z"]))).toEqual(["a", "b:1", "x y&z"]);
  });

  test("knows what a project id is", () => {
    expect(["a", "A.b_c:d-9", "x".repeat(128)].filter(isProjectId)).toHaveLength(3);
    expect(["", "-a", "a b", "ä", "a/b", "x".repeat(129)].filter(isProjectId)).toEqual([]);
  });

  test("gives the page its title, with the number of jobs that run", () => {
    expect(title(["a", "b"], 5)).toBe("(5) a, b · Progress Gateway");
    expect(title(["demo"], 0)).toBe("demo · Progress Gateway");
  });
});

describe("words", () => {
  test("durations", () => {
    const all = [0, 3.5, 3.04, 59.9, 59.99, 65, 3599.6, 7207].map(duration);
    expect(all).toEqual(["0 s", "3.5 s", "3 s", "59.9 s", "1:00", "1:05", "1:00:00", "2:00:07"]);
  });

  test("times, with the day unless it is today", () => {
    expect(time(NOW, NOW)).toBe("12:00:00");
    expect(time(NOW - 86_400_000, NOW)).toContain("31");
  });

  test("a percentage is never rounded up", () => {
    expect(percent(sentence({ percent: 99.97 }))).toBe("99\u00a0%");
    expect(percent(sentence({ percent: 40, status: "failed" }))).toBe("failed");
  });

  test("how a job goes or ended", () => {
    expect(outcome(sentence({ message: "voice 2" }))).toBe("voice 2");
    expect(outcome(sentence())).toBe("");
    expect(outcome(sentence({ status: "complete", result: { file: "a.mp3", duration: 83 } }))).toBe("a.mp3 · 1:23");
    expect(outcome(sentence({ status: "complete", result: { duration: 0 } }))).toBe("0 s");
    expect(outcome(sentence({ status: "complete" }))).toBe("");
    expect(outcome(sentence({ status: "failed", error: "" }))).toBe("No reason was given");
  });

  test("what a sentence says stands beside its bar only", () => {
    const sentences = { s1: sentence({ message: "voice 1" }), s2: sentence({ status: "failed", error: "no voice" }) };
    expect(story(job("a", { message: "voice 1", sentences }))).toBe("");
    expect(story(job("a", { message: "mixing", sentences }))).toBe("mixing");
    expect(story(job("a", { status: "failed", error: "no voice", sentences }))).toBe("1 of 2 failed: no voice");
    expect(story(job("a", { status: "failed", error: "out of memory", sentences }))).toBe("out of memory");
  });

  test("for how long a job is silent, where that is known", () => {
    expect(silence(job("a", { nextWithin: 5 }), NOW + 9_000)).toBe("");
    expect(silence(job("a", { isSilent: true, nextWithin: 5 }), NOW + 9_000)).toBe("silent for 4 s");
    expect(silence(job("a", { isSilent: true }), NOW + 9_000)).toBe("silent");
    expect(overdue(job("a", { isSilent: true, nextWithin: 5 }), NOW + 1_000)).toBe(0); // a clock that was put back
    const sentences = {
      s1: sentence({ isSilent: true, nextWithin: 2, updatedAt: NOW - 8_000 }),
      s2: sentence({ isSilent: true, nextWithin: 2, updatedAt: NOW }),
      s3: sentence({ nextWithin: 0, updatedAt: 0 }),
    };
    expect(overdue(job("a", { isSilent: true, sentences }), NOW)).toBe(6);
  });

  test("how a connection stands", () => {
    expect(standing(snapshot(), NOW)).toBe("Connected");
    expect(standing(snapshot({ isStale: true }), NOW)).toBe("Connected, but stale");
    expect(look(snapshot({ isStale: true }))).toBe("stale");
    expect(standing(snapshot({ status: "connecting", isStale: true }), NOW)).toBe("Connecting");
    const away = snapshot({ status: "disconnected", isStale: true, retryAt: NOW + 3_200 });
    expect(standing(away, NOW)).toBe("Disconnected, again in 4 s");
    expect(standing(away, NOW + 5_000)).toBe("Disconnected, again in 1 s");
    expect(standing({ ...away, retryAt: null }, NOW)).toBe("Disconnected");
  });

  test("a notice says why, and since when what is seen may be old", () => {
    expect(notice(snapshot(), NOW)).toBe("");
    expect(notice(snapshot({ status: "connecting", isStale: true }), NOW)).toBe("");
    const lost = { status: "disconnected", isStale: true, staleSince: NOW } as const;
    const because = (code: number | string, message = ""): string =>
      notice(snapshot({ ...lost, error: { code, message } }), NOW);
    expect(because(1006)).toBe("The gateway cannot be reached.");
    expect(because(1006, "")).toBe("The gateway cannot be reached.");
    expect(because(1012, "Restart")).toBe("Restart.");
    expect(because("offline", "No network")).toBe("This computer has no network.");
    expect(because("bad_project_id")).toContain("not a project id");
    expect(because("unavailable", "Redis does not let it.")).toBe("Redis does not let it.");
    expect(because("constructor")).toBe("The connection ended: constructor.");
    expect(because(4499)).toBe("The connection ended: 4499.");
    expect(notice(snapshot(lost), NOW + 500)).toBe(""); // it may be over in a moment
    expect(notice(snapshot(lost), NOW + 5_000)).toBe("What you see may be old, since 12:00:00.");
    expect(notice(snapshot({ isStale: true }), NOW)).toBe("News may be missing. What you see may be old.");
  });

  test("a gap is told until it is known", () => {
    expect(notice(snapshot({ recovered: false }), NOW)).toContain("Some events were missed");
    expect(notice(snapshot({ recovered: false }), NOW, true)).toBe("");
  });
});

describe("shelves", () => {
  test("jobs that run stay where they are, also those with numbers for ids", () => {
    const one = arrange(EMPTY, jobs(job("b", { seq: 1 }), job("a", { seq: 2 }), job("7", { seq: 3 })));
    expect(one.running).toEqual(["b", "a", "7"]);
    const two = arrange(one, jobs(job("a", { updatedAt: NOW + 9 }), job("7"), job("b"), job("1")));
    expect(two.running).toEqual(["b", "a", "7", "1"]);
  });

  test("those that ended are below, the newest first", () => {
    const end = (jobId: string, ms: number, seq = 0): Job =>
      job(jobId, { status: "complete", updatedAt: NOW + ms, seq });
    const { running, ended } = arrange(
      { running: ["x", "r"], ended: [] },
      jobs(end("1", 0, 5), end("x", 0, 7), end("late", 9), job("r"), end("3", 0, 6)),
    );
    expect(running).toEqual(["r"]);
    expect(ended).toEqual(["late", "x", "3", "1"]);
  });

  test("one that is celebrated stays for a moment, one that runs again comes back last", () => {
    const before = { running: ["a", "b"], ended: [] };
    const over = jobs(job("a", { status: "complete" }), job("b"));
    expect(arrange(before, over, new Set(["a"]))).toBe(before);
    const after = arrange(before, over);
    expect(after).toEqual({ running: ["b"], ended: ["a"] });
    expect(arrange(after, jobs(job("a"), job("b")))).toEqual({ running: ["b", "a"], ended: [] });
  });

  test("nobody who stays is touched: the same order is the same object", () => {
    const before = arrange(EMPTY, jobs(job("a"), job("z", { status: "failed" })));
    expect(arrange(before, jobs(job("a", { percent: 50 }), job("z", { status: "failed" })))).toBe(before);
    const after = arrange(before, jobs(job("a"), job("b"), job("z", { status: "failed" })));
    expect(after.ended).toBe(before.ended);
  });

  test("names that every object has are names like others", () => {
    const names = ["constructor", "__proto__", "toString", "hasOwnProperty"];
    const odd = jobs(...names.map((name) => job(name)));
    expect(arrange(EMPTY, odd).running).toEqual(names);
    expect(arrange({ running: names, ended: [] }, {}).running).toEqual([]);
    expect(changed({}, odd)).toHaveLength(4);
    expect(changed(odd, odd)).toEqual([]);
    expect(changed(odd, { ...odd, ...jobs(job("toString")) })).toHaveLength(1);
  });

  test("24 that ended are shown until more are asked for", () => {
    const ids = Array.from({ length: 30 }, (_, index) => String(index));
    expect(shown(ids, false)).toEqual(ids.slice(0, 24));
    expect(shown(ids, true)).toBe(ids);
  });

  test("how many run", () => expect(countRunning(jobs(job("a"), job("b", { status: "failed" })))).toBe(1));
});

describe("the page's elements", () => {
  test("are moved as little as can be", () => {
    const list = document.createElement("ul");
    const [a, b, c, d] = ["a", "b", "c", "d"].map((id) => Object.assign(document.createElement("li"), { id }));
    list.append(a!, b!, c!);
    const insert = vi.spyOn(list, "insertBefore");
    place(list, [a!, b!, c!]);
    place(list, [b!, c!]);
    expect(insert).not.toHaveBeenCalled();
    place(list, [d!, b!, c!]);
    expect(insert).toHaveBeenCalledTimes(1);
    place(list, [c!, a!, b!, d!]);
    expect([...list.children].map(({ id }) => id).join("")).toBe("cabd");
  });

  test("keep the focus when they move, and pass it on when they are hidden", () => {
    document.body.innerHTML = '<p><button id="a"></button></p><div></div><h1 tabindex="-1"></h1>';
    const button = $("#a");
    button.focus();
    $("div").append(button);
    keepFocus(button);
    expect(document.activeElement).toBe(button);
    setHidden($("div"), true, $("h1"));
    expect(document.activeElement).toBe($("h1"));
  });
});

describe("a card", () => {
  test("shows data as text, whatever it is", () => {
    const card = new Card();
    const markup = "<img src=x onerror=alert(1)>";
    const sentences = { [markup]: sentence({ message: markup }) };
    const odd = job(markup, { jobType: markup as Job["jobType"], status: "failed", error: markup, sentences });
    card.draw(odd, NOW);
    expect(card.element.querySelector("img")).toBeNull();
    expect(card.element.querySelector(".id")?.textContent).toBe(markup);
    expect(card.element.querySelector(":scope > .text")?.textContent).toBe(markup);
  });

  test("has a bar with a name and a value", () => {
    const card = new Card();
    card.draw(job("a", { percent: 12.7, attempt: 2 }), NOW);
    const bar = card.element.querySelector<HTMLElement>('[role="progressbar"]')!;
    expect([bar.getAttribute("aria-label"), bar.getAttribute("aria-valuenow")]).toEqual(["audio a", "12"]);
    expect((bar.firstElementChild as HTMLElement).style.getPropertyValue("--percent")).toBe("12.7");
    expect(card.element.querySelector(".type")?.textContent).toBe("audio · retry 2");
    expect(card.element.querySelector("use")?.getAttribute("href")).toBe("#icon-audio");
  });

  test("counts the seconds for which its job is silent", () => {
    const card = new Card();
    card.draw(job("a", { isSilent: true, nextWithin: 5 }), NOW + 6_000);
    const mark = card.element.querySelector<HTMLElement>(".mark")!;
    expect(mark.textContent).toBe("silent for 1 s");
    expect(mark.title).toBe("Last heard of at 12:00:00, and promised to be heard of again within 5 s");
    card.tick(NOW + 8_000);
    expect(mark.textContent).toBe("silent for 3 s");
    card.draw(job("a"), NOW);
    expect([mark.textContent, mark.title, card.element.hasAttribute("data-silent")]).toEqual(["", "", false]);
    expect(promise(job("a", { isSilent: true }), NOW)).toBe("Last heard of at 12:00:00");
  });

  test("offers the rest of what is too long", () => {
    const card = new Card();
    card.draw(job("short", { message: "short" }), NOW);
    const more = card.element.querySelector<HTMLButtonElement>(".more")!;
    expect(more.hidden).toBe(true);
    card.draw(job("x".repeat(128)), NOW);
    expect(more.hidden).toBe(false);
    more.click();
    expect([more.textContent, more.getAttribute("aria-expanded")]).toEqual(["Less", "true"]);
    expect(card.element.classList.contains("whole")).toBe(true);
  });

  test("has an icon for each type, each end, and what a newer gateway sends", () => {
    const kinds: [Job["status"], string][] = [
      ["running", "video"],
      ["running", "constructor"],
      ["failed", "video"],
      ["complete", "audio"],
    ];
    const icons = kinds.map(([status, jobType]) => icon({ status, jobType: jobType as Job["jobType"] }));
    expect(icons).toEqual(["video", "job", "failed", "complete"]);
    for (const name of [...icons, "script", "audio", "image", "export"]) expect($(`#icon-${name}`)).toBeTruthy();
  });
});

describe("sentences", () => {
  test("stand in the order in which people count", () => {
    expect(inOrder(["s10", "s2", "s1", "intro"])).toEqual(["intro", "s1", "s2", "s10"]);
    const sentences = { a: sentence({ status: "complete" }), b: sentence({ status: "failed" }), c: sentence() };
    expect(tally(sentences)).toBe("1 of 3 sentences, 1 failed");
    expect(tally({ a: sentence() })).toBe("0 of 1 sentence");
  });

  test("keep their rows, and draw only those that changed", () => {
    const card = new Card();
    const [s2, s10] = [sentence({ percent: 20 }), sentence({ percent: 10 })];
    card.draw(job("a", { sentences: { s10, s2 } }), NOW);
    const rows = [...card.element.querySelectorAll("li")];
    expect(rows.map((row) => row.querySelector(".id")?.textContent)).toEqual(["s2", "s10"]);
    const write = vi.spyOn(rows[0]!.querySelector(".bar")!, "setAttribute");
    const s1 = sentence({ status: "failed", error: "no voice", attempt: 1 });
    card.draw(job("a", { sentences: { s10: { ...s10, percent: 30 }, s2, s1 } }), NOW);
    expect(write).not.toHaveBeenCalled();
    expect([...card.element.querySelectorAll("li")].slice(1)).toEqual(rows);
    expect(rows[1]!.querySelector(".percent")?.textContent).toBe("30\u00a0%");
    expect(card.element.querySelector("ul .text")?.textContent).toBe("retry 1 · no voice");
    expect(card.element.dataset["height"]).toBe("2");
  });

  test("of a job that ended are folded, and made only when they are looked at", async () => {
    const card = new Card();
    card.shelve("ended");
    card.draw(job("a", { status: "complete", sentences: { s1: sentence() } }), NOW);
    expect(card.element.querySelectorAll("li")).toHaveLength(0);
    const details = card.element.querySelector("details")!;
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
    expect(card.element.querySelectorAll("li")).toHaveLength(1);
  });

  test("that scroll can be reached by keyboard", () => {
    const card = new Card();
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`s${index}`, sentence()]));
    card.draw(job("a", { sentences: many }), NOW);
    expect(card.element.querySelector("ul")?.getAttribute("tabindex")).toBe("0");
  });
});

describe("what is said aloud", () => {
  const region = (): string => $("#announcer").textContent ?? "";

  test("names one or two jobs, and counts more", () => {
    const [a, b] = [job("a", { status: "complete" }), job("b", { status: "failed" })];
    expect(ends([a])).toBe("audio a complete");
    expect(ends([a, b])).toBe("audio a complete, audio b failed");
    expect(ends([a, b, a])).toBe("2 jobs complete, 1 failed");
    expect(ends([a, a, a])).toBe("3 jobs complete");
    expect(ends([b, b, b])).toBe("3 jobs failed");
  });

  test("comes at most every ten seconds", async () => {
    const announcer = new Announcer($("#announcer"));
    announcer.end(job("a", { status: "complete" }));
    await advance(1_900);
    expect(region()).toBe("");
    await advance(200);
    expect(region()).toBe("audio a complete.");
    for (let index = 0; index < 5; index++) announcer.end(job("b", { status: "complete" }));
    await advance(9_000);
    expect(region()).toBe("audio a complete.");
    await advance(1_100);
    expect(region()).toBe("5 jobs complete.");
  });

  test("tells a loss once for all projects, but not one that is soon over, nor that all is well at first", async () => {
    const announcer = new Announcer($("#announcer"));
    for (const project of ["a", "b"]) announcer.stand(project, "connected");
    announcer.stand("a", "disconnected");
    announcer.stand("a", "connected");
    await advance(60_000);
    expect(region()).toBe("");
    for (const project of ["a", "b"]) announcer.stand(project, "disconnected");
    await advance(2_100);
    expect(region()).toBe("Disconnected.");
    announcer.forget("b");
    announcer.stand("a", "stale");
    await advance(10_100);
    expect(region()).toBe("What you see may be old.");
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
    new Replica($("#replica"), $("#replica-text")).watch();
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

describe("a project", () => {
  let gateway: FakeGateway;
  let panel: Panel;
  const removed: string[] = [];
  const open = async (project = "p", client: ProgressClient = gateway.client()): Promise<void> => {
    const announcer = new Announcer($("#announcer"));
    panel = new Panel(project, { client, announcer, onCount: () => {}, onRemove: (id) => removed.push(id) });
    $("#projects").append(panel.element);
    await advance();
  };
  const progress = (jobId: string, percent = 40, more = {}): number =>
    gateway.publish("p", { type: "progress", jobId, jobType: "audio", progress: percent, ...more });
  const complete = (jobId: string, more = {}): number =>
    gateway.publish("p", { type: "job_complete", jobId, jobType: "audio", result: {}, ...more });

  beforeEach(() => {
    gateway = new FakeGateway();
  });
  afterEach(async () => {
    panel.close();
    await advance(2_000);
  });

  test("without jobs says how to publish one", async () => {
    await open();
    expect(texts(".status")).toEqual(["Connected"]);
    expect([$(".empty").hidden, $(".running").hidden, $(".ended").hidden]).toEqual([false, true, true]);
    expect($(".example").textContent).toBe("p");
    progress("a");
    await advance();
    expect([$(".empty").hidden, $(".running").hidden, panel.running]).toEqual([true, false, 1]);
  });

  test("changes only the cards of jobs that changed", async () => {
    progress("a");
    progress("b");
    await open();
    const [a, b] = [cardOf("a"), cardOf("b")];
    const writes = vi.fn();
    const observer = new MutationObserver(writes);
    observer.observe(a, { attributes: true, characterData: true, childList: true, subtree: true });
    progress("b", 60);
    await advance();
    expect(observer.takeRecords()).toEqual([]);
    expect(writes).not.toHaveBeenCalled();
    expect([cardOf("a"), cardOf("b")]).toEqual([a, b]);
    expect(b.querySelector(".percent")?.textContent).toBe("60\u00a0%");
  });

  test("celebrates an end that is news, where it ran, and then moves it below", async () => {
    progress("a");
    complete("yesterday");
    await open();
    expect([cardOf("yesterday").className, cardOf("yesterday").closest(".ended")]).toEqual(["card", $(".ended")]);
    const card = cardOf("a");
    complete("a");
    await advance();
    expect([card.classList.contains("news"), card.closest(".running")]).toEqual([true, $(".running")]);
    expect(panel.running).toBe(0);
    await advance(1_700);
    expect([card.classList.contains("news"), card.closest(".ended")]).toEqual([false, $(".ended")]);
    expect(texts(".ended .id")).toEqual(["a", "yesterday"]);
    expect($(".running").hidden).toBe(true);
  });

  test("does not celebrate a sentence, nor an end that was missed", async () => {
    progress("a", 10, { sentenceId: "s1" });
    progress("a", 10, { sentenceId: "s2" });
    progress("b");
    await open();
    complete("a", { sentenceId: "s1" });
    await advance();
    expect(cardOf("a").classList.contains("news")).toBe(false);
    gateway.closeAll();
    complete("b");
    await advance(2_000);
    expect(cardOf("b").closest(".ended")).toBe($(".ended"));
    expect(document.querySelector(".news")).toBeNull();
  });

  test("shows 24 that ended, and all when asked", async () => {
    for (let index = 0; index < 30; index++) complete(`job_${index}`);
    await open();
    expect([texts(".ended .count"), texts(".ended .card").length]).toEqual([["30"], 24]);
    expect(texts(".ended .id")[0]).toBe("job_29");
    const all = $<HTMLButtonElement>(".all");
    expect([all.hidden, all.textContent, all.getAttribute("aria-expanded")]).toEqual([false, "Show all 30", "false"]);
    all.click();
    expect([texts(".ended .card").length, all.textContent]).toEqual([30, "Show fewer"]);
  });

  test("takes any name for a job", async () => {
    const names = ["constructor", "__proto__", "toString", "7", "x".repeat(128)];
    for (const name of names) progress(name);
    await open();
    expect(texts(".running .id")).toEqual(names);
    for (const name of names) complete(name);
    await advance(2_000);
    expect(texts(".ended .id")).toEqual(names.reverse());
  });

  test("says that it is disconnected, why, and since when what is seen may be old", async () => {
    progress("a");
    await open();
    gateway.isUp = false;
    gateway.closeAll();
    await advance();
    expect($(".status").dataset["state"]).toBe("disconnected");
    expect(texts(".status")[0]).toMatch(/^Disconnected, again in \d+ s$/);
    expect(panel.element.hasAttribute("data-old")).toBe(true);
    await advance(3_000);
    panel.tick();
    expect($(".notice p").textContent).toBe("The gateway cannot be reached. What you see may be old, since 12:00:00.");
    expect([$(".notice").hidden, $(".retry").hidden]).toEqual([false, false]);
    gateway.isUp = true;
    $(".retry").focus();
    $(".retry").click();
    await advance();
    expect(texts(".status")).toEqual(["Connected"]);
    expect([$(".notice").hidden, document.activeElement === $(".name")]).toEqual([true, true]);
  });

  test("says that the gateway has lost its feed, and that it has it back", async () => {
    await open();
    gateway.setStale(true);
    await advance(1_100);
    panel.tick();
    expect(texts(".status")).toEqual(["Connected, but stale"]);
    expect($(".notice p").textContent).toBe("News may be missing. What you see may be old, since 12:00:00.");
    expect($(".retry").hidden).toBe(true);
    gateway.setStale(false);
    await advance();
    expect([texts(".status"), $(".notice").hidden]).toEqual([["Connected"], true]);
  });

  test("says that something was missed, until that is known", async () => {
    progress("a");
    await open();
    gateway.forget();
    gateway.closeAll();
    await advance(2_000);
    progress("a");
    await advance();
    expect($(".notice p").textContent).toContain("Some events were missed");
    $(".dismiss").click();
    expect($(".notice").hidden).toBe(true);
  });

  test("that is none says so", async () => {
    await open("../etc");
    expect(texts(".status")).toEqual(["Disconnected"]);
    expect($(".notice p").textContent).toContain("This is not a project id");
    expect($(".retry").hidden).toBe(true);
  });

  test("can be removed if it is one of several", async () => {
    await open();
    const remove = $<HTMLButtonElement>(".remove");
    expect(remove.hidden).toBe(true);
    panel.isRemovable = true;
    expect([remove.hidden, remove.getAttribute("aria-label")]).toEqual([false, "Remove p"]);
    remove.click();
    expect(removed).toEqual(["p"]);
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
