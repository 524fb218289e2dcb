/** One job on the page. */

import type { Job } from "../src/core.js";
import { clone, find, setAttribute, setBar, setHidden, setText } from "./dom.js";
import { Sentences } from "./sentences.js";
import { percent, retry, silence, story, time } from "./words.js";

// The stylesheet cuts longer texts, in characters; "More" then shows them whole.
const MOST_OF_NAME = 28;
const MOST_OF_TEXT = 120;

const TYPES: readonly string[] = ["script", "audio", "image", "video", "export"];

/** The name of an icon in index.html: the job's type while it runs, its status once it has ended. */
export function icon({ status, jobType }: Pick<Job, "status" | "jobType">): string {
  if (status !== "running") return status;
  return TYPES.includes(jobType) ? jobType : "job"; // a newer gateway may know more types
}

/** The details behind the mark "silent for 12 s"; empty for a job that is not silent. */
export function silenceDetails({ isSilent, publishedAt, nextWithin }: Job, now: number): string {
  if (!isSilent) return "";
  const last = publishedAt === null ? "Last event at an unknown time" : `Last event at ${time(publishedAt, now)}`;
  return nextWithin == null ? last : `${last}; the next one was promised within ${nextWithin} s`;
}

/** Lives as long as the job is on the page. Its element stays the same when it moves between the two lists. */
export class Card {
  readonly element = clone("card");
  /** The job as it was drawn last. */
  #job: Job | undefined;
  /** The list in which the card is; undefined before the first one. */
  #shelf: "running" | "ended" | undefined;

  // Elements of the card

  #icon = find<SVGUseElement>(this.element, "use");
  #name = find(this.element, ".id");
  #type = find(this.element, ".type");
  #mark = find(this.element, ".mark");
  #percent = find(this.element, ".percent");
  #bar = find(this.element, ":scope > .bar");
  #text = find(this.element, ":scope > .text");
  #more = find(this.element, ".more");
  #sentences = new Sentences(find<HTMLDetailsElement>(this.element, "details"), () => this.#fit());

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
    if (status === "running") this.celebrate(false); // a new attempt began during the celebration
    setAttribute(this.#icon, "href", `#icon-${icon(job)}`);
    setText(this.#name, jobId);
    setAttribute(this.#name, "title", jobId); // the stylesheet cuts a long id
    setText(this.#type, [jobType, retry(job)].filter(Boolean).join(" · "));
    setText(this.#percent, status === "complete" ? "complete" : percent(job));
    setAttribute(this.#percent, "aria-hidden", status === "running" ? "true" : null); // the bar tells screen readers
    setBar(this.#bar, job.percent, `${jobType} ${jobId}`);
    setText(this.#text, text);
    setHidden(this.#more, jobId.length <= MOST_OF_NAME && text.length <= MOST_OF_TEXT);
    this.#sentences.draw(job);
    this.#fit();
    this.#drawMark(now);
  }

  /** Take as many rows of the grid as the sentences need. */
  #fit(): void {
    const { height } = this.#sentences;
    setAttribute(this.element, "data-height", height < 3 ? null : height < 9 ? "2" : "3");
  }

  /** Called every second: count the seconds of a silent job. */
  tick(now: number): void {
    if (this.#job?.isSilent) this.#drawMark(now);
  }

  #drawMark(now: number): void {
    const job = this.#job!;
    setAttribute(this.element, "data-silent", job.isSilent ? "" : null);
    setText(this.#mark, silence(job, now));
    setAttribute(this.#mark, "title", silenceDetails(job, now) || null);
  }

  /** The card moves to this list. Its sentences fold or unfold only then: after that the user decides. */
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
