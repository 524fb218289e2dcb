/** The sentences of a job: a smaller bar for each, folded away when the job has ended. */

import type { Job, JobState } from "../src/core.js";
import { clone, find, place, setAttribute, setBar, setText } from "./dom.js";
import { outcome, percent, plural, retry } from "./words.js";

const MOST_UNSCROLLED = 10; // as many as dashboard.css shows at once

const { compare } = new Intl.Collator("en", { numeric: true }); // s2 before s10

/** Ids in the order in which people count. */
export const inOrder = (ids: readonly string[]): string[] => [...ids].sort(compare);

/** "4 of 6 sentences, 1 failed" */
export function tally(sentences: Job["sentences"]): string {
  const all = Object.values(sentences);
  const count = (wanted: JobState["status"]): number => all.filter(({ status }) => status === wanted).length;
  const failed = count("failed");
  return `${count("complete")} of ${plural(all.length, "sentence")}${failed ? `, ${failed} failed` : ""}`;
}

/** One sentence. */
class Row {
  readonly element = clone("sentence");
  #id: string;
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
    this.element.dataset["state"] = state.status;
    setAttribute(this.element, "data-silent", state.isSilent ? "" : null);
    setText(this.#text, state.isSilent ? `silent · ${text}` : text);
    this.#text.title = text;
    setText(this.#percent, percent(state));
    setAttribute(this.#percent, "aria-hidden", state.status === "failed" ? null : "true"); // the bar says it
    setBar(this.#bar, state.percent, `sentence ${this.#id}`);
  }
}

/** Makes no rows before they are looked at: a project may hold a thousand jobs that ended. */
export class Sentences {
  #details: HTMLDetailsElement;
  #summary: HTMLElement;
  #list: HTMLElement;
  #rows = new Map<string, Row>();
  #sentences: Job["sentences"] = {};

  /** `onFold` is called when they are folded away, or back. */
  constructor(details: HTMLDetailsElement, onFold: () => void) {
    this.#details = details;
    this.#summary = find(details, "summary");
    this.#list = find(details, "ul");
    details.addEventListener("toggle", () => {
      this.#drawRows();
      onFold();
    });
  }

  draw({ jobId, sentences }: Job): void {
    this.#sentences = sentences;
    this.#details.hidden = Object.keys(sentences).length === 0;
    if (this.#details.hidden) return;
    setText(this.#summary, tally(sentences));
    setAttribute(this.#list, "aria-label", `Sentences of ${jobId}`);
    this.#drawRows();
  }

  /** How many rows are to be seen. */
  get height(): number {
    return this.#details.open && !this.#details.hidden ? this.#rows.size : 0;
  }

  fold(isFolded: boolean): void {
    this.#details.open = !isFolded;
  }

  #drawRows(): void {
    if (!this.#details.open) return;
    const ids = Object.keys(this.#sentences);
    const isAsBefore = ids.length === this.#rows.size && ids.every((id) => this.#rows.has(id));
    if (!isAsBefore) this.#placeRows(ids);
    for (const id of ids) this.#rows.get(id)!.draw(this.#sentences[id]!);
  }

  #placeRows(ids: readonly string[]): void {
    this.#rows = new Map(inOrder(ids).map((id) => [id, this.#rows.get(id) ?? new Row(id)]));
    place(
      this.#list,
      [...this.#rows.values()].map(({ element }) => element),
    );
    // What scrolls is to be reached by keyboard.
    setAttribute(this.#list, "tabindex", ids.length > MOST_UNSCROLLED ? "0" : null);
  }
}
