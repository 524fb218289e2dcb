/** The cards of the page at `/`: what is on them, and where they stand. */

import { describe, expect, test, vi } from "vitest";
import { Card, icon, silenceDetails } from "../dashboard/card.js";
import { keepFocus, place, setHidden } from "../dashboard/dom.js";
import { inOrder, Tally } from "../dashboard/sentences.js";
import { arrange, changed, EMPTY, shown } from "../dashboard/shelves.js";
import type { Job, JobEvent } from "../src/core.js";
import { $, job, jobs, NOW, sentence, withPage } from "./dashboard-support.js";

withPage();

describe("shelves", () => {
  test("jobs that run stay where they are, also those with numbers for ids", () => {
    const one = arrange(EMPTY, jobs(job("b", { seq: 1 }), job("a", { seq: 2 }), job("7", { seq: 3 })));
    expect(one.running).toEqual(["b", "a", "7"]);
    const two = arrange(one, jobs(job("a", { seq: 9 }), job("7"), job("b"), job("1")));
    expect(two.running).toEqual(["b", "a", "7", "1"]);
  });

  test("those that ended are below, the newest first", () => {
    const end = (jobId: string, seq?: number): Job => job(jobId, { status: "complete", seq });
    const { running, ended } = arrange(
      { running: ["x", "r"], ended: [] },
      jobs(end("1", 5), end("x", 7), end("live"), end("late", 9), job("r"), end("3", 6)),
    );
    expect(running).toEqual(["r"]);
    expect(ended).toEqual(["live", "late", "x", "3", "1"]); // one without a seq came after all that was replayed
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
    card.draw(job("a", { nextWithin: 5 }), NOW);
    card.draw(job("a", { isSilent: true, nextWithin: 5 }), NOW + 6_000);
    const mark = card.element.querySelector<HTMLElement>(".mark")!;
    expect(mark.textContent).toBe("silent for 0 s");
    expect(mark.title).toBe("Last event at 12:00:00; the next one was promised within 5 s");
    card.draw(job("a", { isSilent: true, nextWithin: 5, percent: 41 }), NOW + 7_000);
    card.tick(NOW + 9_000);
    expect(mark.textContent).toBe("silent for 3 s");
    card.draw(job("a"), NOW);
    expect([mark.textContent, mark.title, card.element.hasAttribute("data-silent")]).toEqual(["", "", false]);
    expect(silenceDetails(job("a", { isSilent: true }), NOW)).toBe("Last event at 12:00:00");
    expect(silenceDetails(job("a", { isSilent: true, publishedAt: null }), NOW)).toBe("");
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

  test("tells when its job ended by the clock of Redis, and how", () => {
    const card = new Card();
    const drawn = (more: Partial<Job>): (string | null | undefined)[] => {
      card.draw(job("a", { publishedAt: NOW - 3_000, ...more }), NOW);
      return [".type", ".percent", ":scope > .text"].map((name) => card.element.querySelector(name)?.textContent);
    };
    expect(drawn({ status: "complete" })).toEqual(["audio · 11:59:57", "complete", ""]);
    expect(drawn({ status: "failed", error: "no voice", publishedAt: null })).toEqual(["audio", "failed", "no voice"]);
    expect(drawn({ status: "failed", reason: "timed_out", error: "" })).toEqual(["audio · 11:59:57", "timed out", ""]);
    expect(drawn({ status: "failed", reason: "lost", error: "no sign of it" })[1]).toBe("worker lost");
    expect(card.element.dataset["state"]).toBe("failed");
    expect(drawn({ status: "failed", reason: "cancelled", error: "by Ann" })[1]).toBe("cancelled");
    expect(card.element.dataset["state"]).toBe("cancelled");
  });

  test("unfolds the data of its author, and writes it out only then", () => {
    const card = new Card();
    const details = card.element.querySelector<HTMLDetailsElement>(".data")!;
    const text = details.querySelector("pre")!;
    card.draw(job("a"), NOW);
    expect(details.hidden).toBe(true);
    card.draw(job("a", { data: { voice: 2, html: "<img src=x>" } }), NOW);
    expect([details.hidden, details.textContent?.trim(), text.textContent]).toEqual([false, "Data · 2 fields", ""]);
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
    expect(text.textContent).toBe('{\n  "voice": 2,\n  "html": "<img src=x>"\n}');
    expect([details.querySelector("img"), card.element.dataset["height"]]).toEqual([null, "2"]);
    card.draw(job("a", { data: { voice: 3 } }), NOW);
    expect(JSON.parse(text.textContent!)).toEqual({ voice: 3 });
    card.draw(job("a"), NOW);
    expect(details.hidden).toBe(true);
  });

  test("has an icon for each well-known type, each end, and any other type", () => {
    const kinds: Pick<Job, "status" | "jobType" | "reason">[] = [
      { status: "running", jobType: "video" },
      { status: "running", jobType: "constructor" },
      { status: "failed", jobType: "video", reason: "lost" },
      { status: "failed", jobType: "video", reason: "cancelled" },
      { status: "complete", jobType: "audio" },
    ];
    const icons = kinds.map(icon);
    expect(icons).toEqual(["video", "job", "failed", "cancelled", "complete"]);
    for (const name of [...icons, "script", "audio", "image", "export"]) expect($(`#icon-${name}`)).toBeTruthy();
  });
});

describe("sentences", () => {
  const tallyOf = (sentences: Job["sentences"]): string => {
    const tally = new Tally();
    for (const [id, state] of Object.entries(sentences)) tally.set(id, state!);
    return tally.text;
  };
  const thousands = (count: number, stateOf = (_: number) => sentence()): Job["sentences"] =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`s${index + 1}`, stateOf(index)]));
  const ids = (card: Card): (string | null)[] =>
    [...card.element.querySelectorAll("ul .id")].map((id) => id.textContent);

  test("of a job with thousands have rows only where they are in sight", async () => {
    const card = new Card();
    document.body.append(card.element);
    card.draw(job("a", { sentences: thousands(5_000) }), NOW);
    const list = card.element.querySelector("ul")!;
    expect(ids(card)[0]).toBe("s1");
    expect(ids(card).length).toBeLessThan(40);
    list.dispatchEvent(new Event("wheel"));
    list.scrollTop = 26 * 2_500;
    list.dispatchEvent(new Event("scroll"));
    expect(ids(card)).toContain("s2501");
    expect(ids(card).length).toBeLessThan(40);
    const row = list.querySelector("li")!;
    expect([row.getAttribute("aria-setsize"), row.getAttribute("aria-posinset")]).toEqual(["5000", "2493"]);
    const room = ["--above", "--below"].map((name) => Number.parseFloat(list.style.getPropertyValue(name)) / 1.625);
    expect(room[0]! + room[1]! + ids(card).length).toBe(5_000);
    list.scrollTop = 26 * 5_000;
    list.dispatchEvent(new Event("scroll"));
    expect(ids(card).at(-1)).toBe("s5000");
  });

  test("of a job with thousands follow the work until somebody scrolls", () => {
    const card = new Card();
    document.body.append(card.element);
    const done = (count: number) => (index: number) => sentence(index < count ? { status: "complete" } : {});
    card.draw(job("a", { sentences: thousands(500, done(300)) }), NOW);
    const list = card.element.querySelector("ul")!;
    expect(list.scrollTop).toBe(26 * 299);
    expect(ids(card)).toContain("s301");
    card.draw(job("a", { sentences: thousands(500, done(310)) }), NOW);
    expect(list.scrollTop).toBe(26 * 309);
    list.dispatchEvent(new Event("wheel"));
    card.draw(job("a", { sentences: thousands(500, done(400)) }), NOW);
    expect(list.scrollTop).toBe(26 * 309);
  });

  test("are drawn by their events alone, where it is known which changed", () => {
    const card = new Card();
    const all = thousands(200);
    card.draw(job("a", { sentences: all }), NOW);
    const event = { type: "progress", jobId: "a", jobType: "audio", sentenceId: "s2", progress: 70 };
    const end = { ...event, type: "job_failed", sentenceId: "s201", error: "no" };
    const changes = new Map([event, end].map((one) => [one.sentenceId, one as unknown as JobEvent]));
    const sentences = vi.fn(() => all);
    const next = Object.defineProperty(job("a"), "sentences", { get: sentences });
    card.draw(next, NOW, changes);
    expect(sentences).not.toHaveBeenCalled();
    expect(card.element.querySelectorAll("ul .percent")[1]?.textContent).toBe("70\u00a0%");
    expect(card.element.querySelector(".tally")?.textContent).toBe("0 of 201 sentences, 1 failed");
    // A new attempt has other sentences, and a silent job may have other silent ones.
    card.draw(job("a", { attempt: 1, sentences: thousands(3) }), NOW, changes);
    expect(ids(card)).toEqual(["s1", "s2", "s3"]);
    card.draw(job("a", { attempt: 1, isSilent: true, sentences: thousands(2) }), NOW, changes);
    expect(ids(card)).toEqual(["s1", "s2"]);
  });

  test("show all of them at a glance, if there are many", () => {
    const card = new Card();
    const strip = card.element.querySelector<HTMLElement>(".strip")!;
    card.draw(job("a", { sentences: thousands(11) }), NOW);
    expect(strip.hidden).toBe(true);
    const states = [
      { status: "complete" },
      { status: "failed" },
      { status: "failed", reason: "cancelled" },
      {},
    ] as const;
    card.draw(job("a", { sentences: thousands(20, (index) => sentence(states[index] ?? { percent: 0 })) }), NOW);
    const ends = ["complete", "failed", "cancelled", "begun"].map((name) => strip.style.getPropertyValue(`--${name}`));
    expect([strip.hidden, ...ends]).toEqual([false, "5.00%", "10.00%", "15.00%", "20.00%"]);
  });

  test("stand in the order in which people count", () => {
    expect(inOrder(["s10", "s2", "s1", "intro"])).toEqual(["intro", "s1", "s2", "s10"]);
    const sentences = { a: sentence({ status: "complete" }), b: sentence({ status: "failed" }), c: sentence() };
    expect(tallyOf(sentences)).toBe("1 of 3 sentences, 1 failed");
    expect(tallyOf({ a: sentence() })).toBe("0 of 1 sentence");
    expect(tallyOf({ a: sentence({ status: "failed", reason: "cancelled" }) })).toBe("0 of 1 sentence, 1 cancelled");
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
    const details = card.element.querySelector<HTMLDetailsElement>(".sentences")!;
    const scrolled = vi.spyOn(details.querySelector("ul")!, "scrollTop", "get");
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
    expect(card.element.querySelectorAll("li")).toHaveLength(1);
    expect(scrolled).not.toHaveBeenCalled(); // it would lay out the page, once for each card
  });

  test("that scroll can be reached by keyboard", () => {
    const card = new Card();
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`s${index}`, sentence()]));
    card.draw(job("a", { sentences: many }), NOW);
    expect(card.element.querySelector("ul")?.getAttribute("tabindex")).toBe("0");
  });
});
