/** The sentences of a job: a smaller bar for each. They are folded when the job has ended. */

import { type Job, type JobState, valuesOf } from "../src/core.js";
import { clone, find, place, setAttribute, setBar, setText } from "./dom.js";
import { outcome, percent, plural, retry } from "./words.js";

const MOST_UNSCROLLED = 10; // dashboard.css shows as many without scrolling

const { compare } = new Intl.Collator("en", { numeric: true });

/** Ids in the order in which people count: s2 before s10. */
export const inOrder = (ids: readonly string[]): string[] => [...ids].sort(compare);

/** "4 of 6 sentences, 1 failed" */
export function tally(sentences: Job["sentences"]): string {
  const all = valuesOf(sentences);
  const count = (wanted: JobState["status"]): number => all.filter(({ status }) => status === wanted).length;
  const failed = count("failed");
  return `${count("complete")} of ${plural(all.length, "sentence")}${failed ? `, ${failed} failed` : ""}`;
}

/** One sentence. Lives as long as the sentence is on the page. */
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
    this.element.dataset["state"] = state.status;
    setAttribute(this.element, "data-silent", state.isSilent ? "" : null);
    setText(this.#text, state.isSilent ? `silent · ${text}` : text);
    this.#text.title = text;
    setText(this.#percent, percent(state));
    setAttribute(this.#percent, "aria-hidden", state.status === "failed" ? null : "true");
    setBar(this.#bar, state.percent, `sentence ${this.#id}`);
  }
}

/** Lives as long as its card. It makes the rows when they are first shown: a project may have a thousand ended jobs. */
export class Sentences {
  /** The element that folds. */
  #details: HTMLDetailsElement;
  /** Its line that is always visible. */
  #summary: HTMLElement;
  /** Its list of rows. */
  #list: HTMLElement;
  /** The rows by sentence id, in the order on the page; empty until they are first shown. */
  #rows = new Map<string, Row>();
  /** The sentences of the job as they were drawn last. */
  #sentences: Job["sentences"] = {};

  /** `onFold` is called when the sentences were folded or unfolded. */
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

  /** The number of visible rows. */
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
    // A list that scrolls must be reachable by keyboard.
    setAttribute(this.#list, "tabindex", ids.length > MOST_UNSCROLLED ? "0" : null);
  }
}
