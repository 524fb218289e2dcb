/** One job on the page. */

import type { Job } from "../src/core.js";
import { clone, find, setAttribute, setBar, setHidden, setText } from "./dom.js";
import { Sentences } from "./sentences.js";
import { percent, retry, silence, story, time } from "./words.js";

// Of that many characters the stylesheet shows all, or nearly: from there on "More" shows the rest.
const MOST_OF_NAME = 28;
const MOST_OF_TEXT = 120;

const TYPES: readonly string[] = ["script", "audio", "image", "video", "export"];

/** The name of an icon in index.html: of the type while the job runs, then of how it ended. */
export function icon({ status, jobType }: Pick<Job, "status" | "jobType">): string {
  if (status !== "running") return status;
  return TYPES.includes(jobType) ? jobType : "job"; // a type of a newer gateway
}

/** What the silent mark cannot say in three words. */
export function promise({ isSilent, updatedAt, nextWithin }: Job, now: number): string {
  if (!isSilent) return "";
  const heard = `Last heard of at ${time(updatedAt, now)}`;
  return nextWithin == null ? heard : `${heard}, and promised to be heard of again within ${nextWithin} s`;
}

/** Its element stays the same for as long as the job is shown, wherever it stands. */
export class Card {
  readonly element = clone("card");
  #job: Job | undefined;
  #icon = find<SVGUseElement>(this.element, "use");
  #name = find(this.element, ".id");
  #type = find(this.element, ".type");
  #mark = find(this.element, ".mark");
  #percent = find(this.element, ".percent");
  #bar = find(this.element, ":scope > .bar");
  #text = find(this.element, ":scope > .text");
  #more = find(this.element, ".more");
  #sentences = new Sentences(find<HTMLDetailsElement>(this.element, "details"), () => this.#fit());
  #shelf: "running" | "ended" | undefined;

  constructor() {
    this.#more.addEventListener("click", () => {
      const isWhole = this.element.classList.toggle("whole");
      setText(this.#more, isWhole ? "Less" : "More");
      setAttribute(this.#more, "aria-expanded", String(isWhole));
    });
  }

  draw(job: Job, now: number): void {
    this.#job = job;
    const { jobId, jobType, status } = job;
    const text = story(job);
    setAttribute(this.element, "data-type", jobType);
    setAttribute(this.element, "data-state", status);
    if (status === "running") this.celebrate(false); // it was tried again at once
    setAttribute(this.#icon, "href", `#icon-${icon(job)}`);
    setText(this.#name, jobId);
    setAttribute(this.#name, "title", jobId); // a long one is cut
    setText(this.#type, [jobType, retry(job)].filter(Boolean).join(" · "));
    setText(this.#percent, status === "complete" ? "complete" : percent(job));
    setAttribute(this.#percent, "aria-hidden", status === "running" ? "true" : null); // the bar says it
    setBar(this.#bar, job.percent, `${jobType} ${jobId}`);
    setText(this.#text, text);
    setHidden(this.#more, jobId.length <= MOST_OF_NAME && text.length <= MOST_OF_TEXT);
    this.#sentences.draw(job);
    this.#fit();
    this.#drawMark(now);
  }

  /** How many rows of the grid it takes. */
  #fit(): void {
    const { height } = this.#sentences;
    setAttribute(this.element, "data-height", height < 3 ? null : height < 9 ? "2" : "3");
  }

  /** A second passed: a silent job is silent for longer. */
  tick(now: number): void {
    if (this.#job?.isSilent) this.#drawMark(now);
  }

  #drawMark(now: number): void {
    const job = this.#job!;
    setAttribute(this.element, "data-silent", job.isSilent ? "" : null);
    setText(this.#mark, silence(job, now));
    setAttribute(this.#mark, "title", promise(job, now) || null);
  }

  /** Where it is about to stand. Its sentences fold as it gets there; who opens them again finds them open. */
  shelve(shelf: "running" | "ended"): void {
    if (shelf === this.#shelf) return;
    this.#shelf = shelf;
    if (shelf === "ended") this.celebrate(false);
    this.#sentences.fold(shelf === "ended");
  }

  celebrate(isOn: boolean): void {
    this.element.classList.toggle("news", isOn);
  }
}
