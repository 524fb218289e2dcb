/** One job on the page. */

import type { Job } from "../src/core.js";
import { Data } from "./data.js";
import { clone, find, setAttribute, setBar, setHidden, setText } from "./dom.js";
import { type Changes, Sentences } from "./sentences.js";
import { endWord, look, percent, retry, silence, story, time } from "./words.js";

// The stylesheet cuts longer texts, in characters; "More" then shows them whole.
const MOST_OF_NAME = 28;
const MOST_OF_TEXT = 120;

const TYPES: readonly string[] = ["script", "audio", "image", "video", "export"];

/** The name of an icon in index.html: the job's type while it runs, how it ended after that. */
export function icon(job: Pick<Job, "status" | "jobType" | "reason">): string {
  if (job.status !== "running") return look(job);
  return TYPES.includes(job.jobType) ? job.jobType : "job"; // any other name will do for a type
}

/** The details behind the mark "silent for 12 s"; empty for a job that is not silent. */
export function silenceDetails({ isSilent, publishedAt, nextWithin }: Job, now: number): string {
  if (!isSilent) return "";
  const last = publishedAt == null ? "" : `Last event at ${time(publishedAt, now)}`;
  const promise = nextWithin == null ? "" : `the next one was promised within ${nextWithin} s`;
  return [last, promise].filter(Boolean).join("; ");
}

/** "audio · retry 1 · 13:04:05": the time is that of the end, by the clock of Redis. */
export function kind(job: Job, now: number): string {
  const at = job.isTerminal && job.publishedAt != null ? time(job.publishedAt, now) : "";
  return [job.jobType, retry(job), at].filter(Boolean).join(" · ");
}

/** Lives as long as the job is on the page. Its element stays the same when it moves between the two lists. */
export class Card {
  readonly element = clone("card");
  /** The job as it was drawn last. */
  #job: Job | undefined;
  /** When its job fell silent, in ms since the epoch, as far as this page knows. */
  #silentSince = 0;
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
  #sentences = new Sentences(find<HTMLDetailsElement>(this.element, ".sentences"), () => this.#fit());
  #data = new Data(find<HTMLDetailsElement>(this.element, ".data"), () => this.#fit());

  constructor() {
    this.#more.addEventListener("click", () => {
      const isWhole = this.element.classList.toggle("whole");
      setText(this.#more, isWhole ? "Less" : "More");
      setAttribute(this.#more, "aria-expanded", String(isWhole));
    });
  }

  /** Draw the job; `changes` says which of its sentences changed, if that is known. */
  draw(job: Job, now: number, changes: Changes = "all"): void {
    if (job.isSilent && !this.#job?.isSilent) this.#silentSince = now;
    // A sentence's event tells nothing about the others, unless it begins an attempt or one of them is silent.
    const isPartial = this.#job && this.#job.attempt === job.attempt && !this.#job.isSilent && !job.isSilent;
    this.#sentences.draw(job, isPartial ? changes : "all");
    this.#data.draw(job);
    this.#job = job;
    const { jobId, jobType, status } = job;
    const text = story(job, this.#sentences.tally.states.values());
    setAttribute(this.element, "data-type", jobType);
    setAttribute(this.element, "data-state", look(job));
    if (status === "running") this.celebrate(false); // a new attempt began during the celebration
    setAttribute(this.#icon, "href", `#icon-${icon(job)}`);
    setText(this.#name, jobId);
    setAttribute(this.#name, "title", jobId); // the stylesheet cuts a long id
    setText(this.#type, kind(job, now));
    setText(this.#percent, status === "running" ? percent(job) : endWord(job));
    setAttribute(this.#percent, "aria-hidden", status === "running" ? "true" : null); // the bar tells screen readers
    setBar(this.#bar, job.percent, `${jobType} ${jobId}`);
    setText(this.#text, text);
    setHidden(this.#more, jobId.length <= MOST_OF_NAME && text.length <= MOST_OF_TEXT);
    this.#fit();
    this.#drawMark(now);
  }

  /** Take as many rows of the grid as the sentences need. */
  #fit(): void {
    const height = this.#sentences.height + (this.#data.isOpen ? 6 : 0);
    setAttribute(this.element, "data-height", height < 3 ? null : height < 9 ? "2" : "3");
  }

  /** Whether the card is where its job belongs. */
  isOn(shelf: "running" | "ended"): boolean {
    return this.#shelf === shelf;
  }

  /** Called every second: count the seconds of a silent job. */
  tick(now: number): void {
    if (this.#job?.isSilent) this.#drawMark(now);
  }

  #drawMark(now: number): void {
    const job = this.#job!;
    setAttribute(this.element, "data-silent", job.isSilent ? "" : null);
    setText(this.#mark, silence(job, this.#silentSince, now));
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
