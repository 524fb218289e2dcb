/** A project on the page at `/`, against the gateway in memory. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Announcer } from "../dashboard/announcer.js";
import { Panel } from "../dashboard/panel.js";
import type { ProgressClient } from "../src/core.js";
import { FakeGateway } from "../src/testing.js";
import { $, advance, cardOf, texts, withPage } from "./dashboard-support.js";

withPage();

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
  const progress = (jobId: string, percent = 40, more = {}): number | null =>
    gateway.publish("p", { type: "progress", jobId, jobType: "audio", progress: percent, ...more });
  const complete = (jobId: string, more = {}): number | null =>
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

  test("draws only the sentences of which an event came, and all of them when the job begins anew", async () => {
    for (const id of ["s1", "s2", "s3"]) progress("a", 10, { sentenceId: id });
    progress("a", 50);
    await open();
    const percents = (): string[] => texts(".sentences ul .percent").map((text) => text.replace("\u00a0", " "));
    expect(percents()).toEqual(["10 %", "10 %", "10 %"]);
    progress("a", 20, { sentenceId: "s2" });
    progress("a", 30, { sentenceId: "s2" });
    complete("a", { sentenceId: "s4" });
    await advance();
    expect([percents(), texts(".tally")]).toEqual([["10 %", "30 %", "10 %", "100 %"], ["1 of 4 sentences"]]);
    progress("a", 0);
    progress("a", 5, { sentenceId: "s9" });
    await advance();
    expect([percents(), texts(".tally")]).toEqual([["5 %"], ["0 of 1 sentence"]]);
    progress("a", 7, { sentenceId: "s1", attempt: 2 });
    await advance();
    expect([percents(), texts(".type")]).toEqual([["7 %"], ["audio · retry 2"]]);
  });

  test("says how many run, also those that were left out", async () => {
    for (let index = 0; index < 30; index++) progress(`job_${index}`);
    await open("p", gateway.client({ jobLimit: 20 }));
    expect([texts(".running .count"), panel.running, texts(".running .card").length]).toEqual([["20 of 30"], 30, 20]);
  });

  test("shows a cancelled job as cancelled, and one of a type of its own with its data", async () => {
    progress("a", 40, { jobType: "thumbnails", data: { page: 3 } });
    gateway.publish("p", { type: "job_failed", jobId: "b", jobType: "audio", error: "by Ann", reason: "cancelled" });
    await open();
    expect(cardOf("a").querySelector("use")?.getAttribute("href")).toBe("#icon-job");
    expect(cardOf("a").querySelector<HTMLElement>(".data")?.hidden).toBe(false);
    expect([cardOf("b").dataset["state"], texts(".ended .percent")]).toEqual(["cancelled", ["cancelled"]]);
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
    expect(texts(".status")[0]).toMatch(/^Disconnected, retrying in \d+ s$/);
    expect(panel.element.hasAttribute("data-old")).toBe(true);
    await advance(3_000);
    panel.tick();
    expect($(".notice p").textContent).toBe(
      "The gateway cannot be reached. What you see may be out of date since 12:00:00.",
    );
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
    expect($(".notice p").textContent).toBe("Events may be missing. What you see may be out of date since 12:00:00.");
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
    expect($(".notice p").textContent).toContain("Some missed events");
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
