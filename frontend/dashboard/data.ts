/** The author's own data of a job, folded: it is written out only while somebody looks at it. */

import type { Job } from "../src/core.js";
import { find, setHidden, setText } from "./dom.js";
import { plural } from "./words.js";

/** Lives as long as its card. */
export class Data {
  /** The element that folds. */
  #details: HTMLDetailsElement;
  /** Its line that is always visible. */
  #summary: HTMLElement;
  #text: HTMLElement;
  /** The data as it was drawn last. */
  #data: Job["data"];

  /** `onFold` is called when the data was folded or unfolded. */
  constructor(details: HTMLDetailsElement, onFold: () => void) {
    this.#details = details;
    this.#summary = find(details, "summary");
    this.#text = find(details, "pre");
    details.addEventListener("toggle", () => {
      this.#write();
      onFold();
    });
  }

  draw({ jobId, data }: Job): void {
    if (data === this.#data) return;
    this.#data = data;
    setHidden(this.#details, !data);
    if (!data) return;
    setText(this.#summary, `Data · ${plural(Object.keys(data).length, "field")}`);
    this.#text.setAttribute("aria-label", `Data of ${jobId}`);
    this.#write();
  }

  get isOpen(): boolean {
    return this.#details.open && !this.#details.hidden;
  }

  #write(): void {
    if (this.#details.open && this.#data) setText(this.#text, JSON.stringify(this.#data, null, 2));
  }
}
