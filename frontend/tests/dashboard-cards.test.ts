/** The cards of the page at `/`: what is on them, and where they stand. */

import { describe, expect, test, vi } from "vitest";
import { Card, icon, silenceDetails } from "../dashboard/card.js";
import { keepFocus, place, setHidden } from "../dashboard/dom.js";
import { inOrder, tally } from "../dashboard/sentences.js";
import { arrange, changed, countRunning, EMPTY, shown } from "../dashboard/shelves.js";
import type { Job } from "../src/core.js";
import { $, job, jobs, NOW, sentence, withPage } from "./dashboard-support.js";

withPage();

describe("shelves", () => {
  test("jobs that run stay where they are, also those with numbers for ids", () => {
    const one = arrange(EMPTY, jobs(job("b", { seq: 1 }), job("a", { seq: 2 }), job("7", { seq: 3 })));
    expect(one.running).toEqual(["b", "a", "7"]);
    const two = arrange(one, jobs(job("a", { publishedAt: NOW + 9 }), job("7"), job("b"), job("1")));
    expect(two.running).toEqual(["b", "a", "7", "1"]);
  });

  test("those that ended are below, the newest first", () => {
    const end = (jobId: string, ms: number, seq = 0): Job =>
      job(jobId, { status: "complete", publishedAt: NOW + ms, seq });
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
    expect(mark.title).toBe("Last event at 12:00:00; the next one was promised within 5 s");
    card.tick(NOW + 8_000);
    expect(mark.textContent).toBe("silent for 3 s");
    card.draw(job("a"), NOW);
    expect([mark.textContent, mark.title, card.element.hasAttribute("data-silent")]).toEqual(["", "", false]);
    expect(silenceDetails(job("a", { isSilent: true }), NOW)).toBe("Last event at 12:00:00");
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
