/** One project on the page: its name, how far what is shown can be relied on, and its jobs. */

import type { Job, JobEvent, ProgressClient, ProjectStore, Snapshot } from "../src/core.js";
import type { Announcer } from "./announcer.js";
import { Card } from "./card.js";
import { clone, find, keepFocus, place, setAttribute, setHidden, setText } from "./dom.js";
import { arrange, changed, countRunning, EMPTY, FOLD, type Shelves, shown } from "./shelves.js";
import { look, notice, standing } from "./words.js";

const CELEBRATION_MS = 1_600; // how long a job that just ended stays where it was
const CROWD = 100; // from so many on, the stylesheet spares those that are out of sight
const MOST_CELEBRATED = 24; // at a time: in a burst of ends nobody could follow more

/** What the panels share. */
export interface Surroundings {
  readonly client: ProgressClient;
  readonly announcer: Announcer;
  /** The number of running jobs may have changed. */
  onCount(): void;
  onRemove(project: string): void;
}

let made = 0;

/** Draws when its snapshot changes, which is once a frame at most; and in each frame only what changed. */
export class Panel {
  readonly project: string;
  readonly element = clone("project-panel");
  /** How many jobs run. */
  running = 0;
  #around: Surroundings;
  #store: ProjectStore;
  #leave: () => void;
  #jobs: Snapshot["jobs"] = {};
  #shelves: Shelves = EMPTY;
  #cards = new Map<string, Card>(); // of those that are shown
  #held = new Map<string, number>(); // those that are celebrated, and until when
  #release: ReturnType<typeof setTimeout> | undefined;
  #isUnfolded = false;
  #isGapKnown = false; // its notice was put away
  #name = find(this.element, ".name");
  #status = find(this.element, ".status");
  #statusText = find(this.element, ".status-text");
  #remove = find(this.element, ".remove");
  #notice = find(this.element, ".notice");
  #noticeText = find(this.element, ".notice p");
  #retry = find(this.element, ".retry");
  #dismiss = find(this.element, ".dismiss");
  #empty = find(this.element, ".empty");
  #running = find(this.element, ".running");
  #ended = find(this.element, ".ended");
  #all = find(this.element, ".all");

  constructor(project: string, around: Surroundings) {
    this.project = project;
    this.#around = around;
    this.#store = around.client.project(project);
    this.#name.id = `project-${++made}`;
    this.element.setAttribute("aria-labelledby", this.#name.id);
    setText(this.#name, project);
    setText(find(this.element, ".example"), project);
    this.#remove.setAttribute("aria-label", `Remove ${project}`);
    this.#remove.addEventListener("click", () => around.onRemove(project));
    this.#retry.addEventListener("click", () => around.client.reconnect());
    this.#dismiss.addEventListener("click", () => this.#knowGap());
    this.#all.addEventListener("click", () => this.#unfold());
    this.#leave = this.#store.subscribe(() => this.#draw(), {
      onTerminal: (job, event) => this.#onTerminal(job, event),
    });
    this.#draw();
  }

  /** It leaves the page. */
  close(): void {
    this.#leave();
    clearTimeout(this.#release);
    this.#around.announcer.forget(this.project);
    this.element.remove();
  }

  /** Whether it is one of several. */
  set isRemovable(isRemovable: boolean) {
    setHidden(this.#remove, !isRemovable, this.#name);
  }

  focus(): void {
    this.#name.focus();
    this.element.scrollIntoView();
  }

  /** A second passed. */
  tick(): void {
    const now = Date.now();
    const snapshot = this.#store.getSnapshot();
    this.#drawStanding(snapshot, now);
    if (look(snapshot) !== "connected") return; // who cannot hear does not know who is silent
    for (const card of this.#cards.values()) card.tick(now);
  }

  #draw(): void {
    const now = Date.now();
    const snapshot = this.#store.getSnapshot();
    const moved = changed(this.#jobs, snapshot.jobs);
    if (this.#jobs !== snapshot.jobs) {
      this.#jobs = snapshot.jobs;
      for (const job of moved) this.#cards.get(job.jobId)?.draw(job, now);
      this.#shelve(now);
      this.running = countRunning(snapshot.jobs);
      this.#around.onCount();
    }
    this.#drawStanding(snapshot, now);
  }

  // The head

  #drawStanding(snapshot: Snapshot, now: number): void {
    const state = look(snapshot);
    this.#status.dataset["state"] = state;
    setText(this.#statusText, standing(snapshot, now));
    setAttribute(this.element, "data-old", state === "connected" ? null : "");
    if (snapshot.recovered) this.#isGapKnown = false;
    const text = notice(snapshot, now, this.#isGapKnown);
    setText(this.#noticeText, text);
    setHidden(this.#notice, !text, this.#name);
    const code = snapshot.error?.code;
    const canRetry = state === "disconnected" && code !== "bad_project_id" && code !== "offline";
    setHidden(this.#retry, !canRetry, this.#name);
    setHidden(this.#dismiss, snapshot.recovered || this.#isGapKnown, this.#name);
    setHidden(this.#empty, state !== "connected" || Object.keys(snapshot.jobs).length > 0);
    if (state !== "connecting") this.#around.announcer.stand(this.project, state);
  }

  #knowGap(): void {
    this.#isGapKnown = true;
    this.#drawStanding(this.#store.getSnapshot(), Date.now());
  }

  // Jobs

  #shelve(now: number): void {
    const shelves = arrange(this.#shelves, this.#jobs, new Set(this.#held.keys()));
    if (shelves === this.#shelves) return;
    this.#shelves = shelves;
    this.#place(now);
  }

  #place(now: number): void {
    const { running, ended } = this.#shelves;
    const before = this.#cards;
    const focused = document.activeElement;
    this.#cards = new Map();
    const cards = (ids: readonly string[], shelf: "running" | "ended"): Element[] =>
      ids.map((id) => {
        const known = before.get(id);
        const card = known ?? new Card();
        card.shelve(shelf);
        if (!known) card.draw(this.#jobs[id]!, now);
        this.#cards.set(id, card);
        return card.element;
      });
    this.#fill(this.#running, cards(running, "running"), running.length);
    this.#fill(this.#ended, cards(shown(ended, this.#isUnfolded), "ended"), ended.length);
    setHidden(this.#all, ended.length <= FOLD, this.#name);
    setText(this.#all, this.#isUnfolded ? "Show fewer" : `Show all ${ended.length}`);
    this.#all.setAttribute("aria-expanded", String(this.#isUnfolded));
    keepFocus(focused);
  }

  #fill(shelf: HTMLElement, cards: readonly Element[], count: number): void {
    const list = find(shelf, "ul");
    place(list, cards);
    list.classList.toggle("crowd", cards.length >= CROWD);
    setHidden(shelf, !count);
    setText(find(shelf, ".count"), String(count));
  }

  #unfold(): void {
    this.#isUnfolded = !this.#isUnfolded;
    this.#place(Date.now());
  }

  // News

  #onTerminal(job: Job, event: JobEvent): void {
    if (event.isReplay || !job.isTerminal) return; // yesterday's result, or that of one sentence
    this.#around.announcer.end(job);
    const isShown = this.#shelves.running.includes(job.jobId);
    if (!isShown || this.#held.size >= MOST_CELEBRATED) return;
    this.#held.set(job.jobId, Date.now() + CELEBRATION_MS);
    this.#cards.get(job.jobId)?.celebrate(true);
    this.#release ??= setTimeout(() => this.#onReleased(), CELEBRATION_MS);
  }

  #onReleased(): void {
    const now = Date.now();
    for (const [id, until] of this.#held) {
      if (until > now) continue;
      this.#held.delete(id);
      this.#cards.get(id)?.celebrate(false);
    }
    const [next] = this.#held.values();
    this.#release = next === undefined ? undefined : setTimeout(() => this.#onReleased(), next - now);
    this.#shelve(now);
  }
}
