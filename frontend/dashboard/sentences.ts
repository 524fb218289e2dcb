/** The sentences of a job: a smaller bar for each. They are folded when the job has ended. */

import type { Job, JobEvent, JobState } from "../src/core.js";
import { Part } from "../src/state.js";
import { clone, find, place, setAttribute, setBar, setHidden, setText } from "./dom.js";
import { count, look, outcome, percent, plural, retry } from "./words.js";

const MOST_UNSCROLLED = 10; // dashboard.css shows as many without scrolling
const MOST_WHOLE = 60; // of more sentences, only those in sight have rows
const ROW_REM = 1.625; // the height of a row then; dashboard.css has the same
const LIST_REM = 17; // the height of the list then, likewise
const SPARE = 8; // rows above and below those in sight, so that scrolling shows no hole
const STRIP_FROM = 12; // from so many on, a strip shows them all at a glance

const { compare } = new Intl.Collator("en", { numeric: true });

/** Ids in the order in which people count: s2 before s10. */
export const inOrder = (ids: Iterable<string>): string[] => [...ids].sort(compare);

/** The last events of the sentences that changed, by their ids; "all" where it is not known which did. */
export type Changes = ReadonlyMap<string, JobEvent> | "all";

/** The sentences of one job as they were drawn last, and how many of them stand how. */
export class Tally {
  readonly states = new Map<string, JobState>();
  complete = 0;
  failed = 0;
  cancelled = 0;
  /** Those that run and are beyond 0 %. */
  begun = 0;

  set(id: string, state: JobState): void {
    this.#count(this.states.get(id), -1);
    this.#count(state, 1);
    this.states.set(id, state);
  }

  delete(id: string): void {
    this.#count(this.states.get(id), -1);
    this.states.delete(id);
  }

  #count(state: JobState | undefined, by: 1 | -1): void {
    if (!state) return;
    if (state.status === "complete") this.complete += by;
    else if (state.status === "running") this.begun += state.percent > 0 ? by : 0;
    else if (state.reason === "cancelled") this.cancelled += by;
    else this.failed += by;
  }

  /** "4 of 6 sentences, 1 failed" */
  get text(): string {
    const { complete, failed, cancelled } = this;
    const more = [failed && `${count(failed)} failed`, cancelled && `${count(cancelled)} cancelled`].filter(Boolean);
    return [`${count(complete)} of ${plural(this.states.size, "sentence")}`, ...more].join(", ");
  }
}

/** One sentence. Lives as long as the sentence is in sight. */
class Row {
  readonly element = clone("sentence");
  /** The sentence's id. */
  #id: string;
  /** The state that was drawn last. */
  #state: JobState | undefined;
  #name = find(this.element, ".id");
  #bar = find(this.element, ".bar");
  #text = find(this.element, ".text");
  #percent = find(this.element, ".percent");

  constructor(id: string) {
    this.#id = id;
    setText(this.#name, id);
    this.#name.title = id;
  }

  draw(state: JobState): void {
    if (state === this.#state) return;
    this.#state = state;
    const text = [retry(state), outcome(state)].filter(Boolean).join(" · ");
    setAttribute(this.element, "data-state", look(state));
    setAttribute(this.element, "data-silent", state.isSilent ? "" : null);
    setText(this.#text, state.isSilent ? `silent · ${text}` : text);
    this.#text.title = text;
    setText(this.#percent, percent(state));
    setAttribute(this.#percent, "aria-hidden", state.status === "failed" ? null : "true");
    setBar(this.#bar, state.percent, `sentence ${this.#id}`);
  }

  /** Screen readers are told its place, because the rows around it may not be there. */
  number(index: number | null, all: number): void {
    setAttribute(this.element, "aria-posinset", index === null ? null : String(index + 1));
    setAttribute(this.element, "aria-setsize", index === null ? null : String(all));
  }
}

/**
 * Lives as long as its card. It makes rows only while they are looked at, and of thousands of sentences only those in
 * sight. A frame costs what changed in it.
 */
export class Sentences {
  readonly tally = new Tally();
  /** The element that folds. */
  #details: HTMLDetailsElement;
  /** Its line that is always visible. */
  #summary: HTMLElement;
  /** Shows all sentences at a glance. */
  #strip: HTMLElement;
  /** Its list of rows. */
  #list: HTMLElement;
  /** The rows by sentence id, in the order on the page; empty until they are first shown. */
  #rows = new Map<string, Row>();
  /** All ids in order; undefined after one came or went, until it is needed. */
  #ids: string[] | undefined;
  /** The list follows the work until the user scrolls it. */
  #isFollowing = true;
  /** The number of sentences that had ended when it was scrolled last; -1 after it was not on the page. */
  #followed = -1;
  /** How far it is scrolled, in pixels. */
  #top = 0;

  /** `onFold` is called when the sentences were folded or unfolded. */
  constructor(details: HTMLDetailsElement, onFold: () => void) {
    this.#details = details;
    this.#summary = find(details, "summary .tally");
    this.#strip = find(details, ".strip");
    this.#list = find(details, "ul");
    const onScroll = (): void => {
      this.#top = this.#list.scrollTop;
      this.#drawRows();
    };
    this.#list.addEventListener("scroll", onScroll, { passive: true });
    for (const type of ["wheel", "touchstart", "pointerdown", "keydown"]) {
      this.#list.addEventListener(type, () => (this.#isFollowing = false), { passive: true });
    }
    details.addEventListener("toggle", () => {
      // Each new card gets this event. To ask all of a thousand where they are scrolled takes 15 s: each lays out anew.
      if (this.#size > MOST_WHOLE) [this.#top, this.#followed] = [this.#list.scrollTop, -1];
      this.#drawRows();
      onFold();
    });
  }

  /** With `changes` "all" every sentence of the job is read, which takes long for thousands. */
  draw(job: Job, changes: Changes = "all"): void {
    if (changes === "all") this.#readAll(job);
    else for (const [id, event] of changes) this.#read(id, new Part(event, 0).state); // its last event says all
    this.#details.hidden = this.#size === 0;
    if (this.#details.hidden) return;
    setText(this.#summary, this.tally.text);
    this.#drawStrip();
    setAttribute(this.#list, "aria-label", `Sentences of ${job.jobId}`);
    this.#drawRows();
  }

  /** The number of visible rows. */
  get height(): number {
    return this.#details.open && !this.#details.hidden ? this.#rows.size : 0;
  }

  fold(isFolded: boolean): void {
    this.#details.open = !isFolded;
  }

  get #size(): number {
    return this.tally.states.size;
  }

  #readAll({ sentences }: Job): void {
    for (const id of this.tally.states.keys()) if (!Object.hasOwn(sentences, id)) this.#read(id, undefined);
    for (const [id, state] of Object.entries(sentences)) this.#read(id, state);
  }

  #read(id: string, state: JobState | undefined): void {
    const { states } = this.tally;
    if (states.get(id) === state) return;
    if (!state) {
      this.tally.delete(id);
      this.#ids = undefined;
      return;
    }
    if (this.#ids && !states.has(id)) insert(this.#ids, id);
    this.tally.set(id, state);
  }

  #drawStrip(): void {
    const { complete, failed, cancelled, begun } = this.tally;
    setHidden(this.#strip, this.#size < STRIP_FROM);
    if (this.#strip.hidden) return;
    let sum = 0;
    for (const [name, value] of Object.entries({ complete, failed, cancelled, begun })) {
      sum += value;
      const end = `${((100 * sum) / this.#size).toFixed(2)}%`;
      if (this.#strip.style.getPropertyValue(`--${name}`) !== end) this.#strip.style.setProperty(`--${name}`, end);
    }
  }

  #drawRows(): void {
    if (!this.#details.open || this.#details.hidden) return;
    this.#ids ??= inOrder(this.tally.states.keys());
    const isWindow = this.#size > MOST_WHOLE;
    this.#list.classList.toggle("window", isWindow);
    // A list that scrolls must be reachable by keyboard.
    setAttribute(this.#list, "tabindex", this.#size > MOST_UNSCROLLED ? "0" : null);
    const before = this.#top;
    if (isWindow) this.#follow(this.#ids);
    const [first, end] = isWindow ? this.#inSight(this.#ids) : [0, this.#size];
    this.#place(this.#ids.slice(first, end), first, isWindow);
    if (this.#top !== before) this.#list.scrollTop = this.#top;
    for (const [id, row] of this.#rows) row.draw(this.tally.states.get(id)!);
  }

  #place(ids: readonly string[], first: number, isWindow: boolean): void {
    const shown = [...this.#rows.keys()];
    if (shown.length !== ids.length || shown.some((id, index) => id !== ids[index])) {
      this.#rows = new Map(ids.map((id) => [id, this.#rows.get(id) ?? new Row(id)]));
      place(
        this.#list,
        [...this.#rows.values()].map(({ element }) => element),
      );
    }
    setRoom(this.#list, "--above", isWindow ? first : 0);
    setRoom(this.#list, "--below", isWindow ? this.#size - first - ids.length : 0);
    let index = first;
    for (const row of this.#rows.values()) row.number(isWindow ? index++ : null, this.#size);
  }

  /** The sentences that are in sight: the first one and the end. Asks the browser nothing: that would lay out. */
  #inSight(ids: readonly string[]): [number, number] {
    const top = Math.floor(this.#top / (ROW_REM * rem()));
    const first = Math.max(0, Math.min(top, ids.length - Math.floor(LIST_REM / ROW_REM)) - SPARE);
    return [first, Math.min(ids.length, first + Math.ceil(LIST_REM / ROW_REM) + 2 * SPARE)];
  }

  /** Scroll to the first sentence that runs, unless the user has scrolled. */
  #follow(ids: readonly string[]): void {
    const { states, complete, failed, cancelled } = this.tally;
    const ended = complete + failed + cancelled;
    if (!this.#isFollowing || ended === this.#followed) return;
    if (!this.#list.isConnected) {
      // The card is drawn before it is put on the page, and only there it can scroll.
      requestAnimationFrame(() => this.#list.isConnected && this.#drawRows());
      return;
    }
    this.#followed = ended;
    const index = ids.findIndex((id) => states.get(id)!.status === "running");
    if (index >= 0) this.#top = Math.max(0, index - 1) * ROW_REM * rem();
  }
}

/** The room of the rows that are out of sight. */
function setRoom(list: HTMLElement, name: string, rows: number): void {
  const height = `${rows * ROW_REM}rem`;
  if (list.style.getPropertyValue(name) !== height) list.style.setProperty(name, height);
}

let remPixels = 0;

/** The size of a rem in pixels. */
function rem(): number {
  remPixels ||= Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
  return remPixels;
}

/** Put `id` in its place. */
function insert(ids: string[], id: string): void {
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(ids[middle]!, id) < 0) low = middle + 1;
    else high = middle;
  }
  ids.splice(low, 0, id);
}
