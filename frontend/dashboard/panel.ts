/** One project on the page: its name, its jobs, and whether they are current. */

import type { Job, JobEvent, ProgressClient, ProjectStore, Snapshot } from "../src/core.js";
import type { Announcer } from "./announcer.js";
import { Card } from "./card.js";
import { clone, find, keepFocus, place, setAttribute, setHidden, setText } from "./dom.js";
import { arrange, changed, EMPTY, FOLD, type Shelves, shown } from "./shelves.js";
import { connectionState, count, notice, statusText } from "./words.js";

const CELEBRATION_MS = 1_600; // how long a job that just ended stays among the running ones
const CROWD = 100; // from this many cards on, the stylesheet does not draw those out of sight
const MOST_CELEBRATED = 24; // at a time; in a burst of ends nobody can follow more

/** What a panel needs from its page. */
export interface PanelOwner {
  readonly client: ProgressClient;
  readonly announcer: Announcer;
  /** The number of running jobs may have changed. */
  onCount(): void;
  /** The user removed the project. */
  onRemove(project: string): void;
}

let panelCount = 0; // for ids of elements

/** Lives as long as its project is on the page. It draws at most once a frame, and only what changed. */
export class Panel {
  readonly project: string;
  readonly element = clone("project-panel");
  /** The number of running jobs. */
  running = 0;
  /** The page that it stands on. */
  #owner: PanelOwner;
  /** The project's store in the client. */
  #store: ProjectStore;
  /** Ends the subscription of the store. */
  #unsubscribe: () => void;

  // What was drawn last

  /** The jobs of the last snapshot. */
  #jobs: Snapshot["jobs"] = {};
  /** The order of the cards in both lists. */
  #shelves: Shelves = EMPTY;
  /** The cards on the page, by job id. */
  #cards = new Map<string, Card>();
  /** The last events of the sentences that changed since then, by job id; "all" where it is not known which did. */
  #changes = new Map<string, Map<string, JobEvent> | "all">();
  /** The jobs that are celebrated, and until when, in ms since the epoch. */
  #held = new Map<string, number>();
  /** The timer that ends the celebrations. */
  #release: ReturnType<typeof setTimeout> | undefined;
  /** All ended jobs are shown, not only the newest. */
  #isUnfolded = false;
  /** The user dismissed the notice that events were missed. */
  #isGapKnown = false;

  // Elements of the panel

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
  #runningCount = find(this.#running, ".count");
  #endedCount = find(this.#ended, ".count");
  #all = find(this.element, ".all");

  constructor(project: string, owner: PanelOwner) {
    this.project = project;
    this.#owner = owner;
    this.#store = owner.client.project(project);
    this.#name.id = `project-${++panelCount}`;
    this.element.setAttribute("aria-labelledby", this.#name.id);
    setText(this.#name, project);
    setText(find(this.element, ".example"), project);
    this.#remove.setAttribute("aria-label", `Remove ${project}`);
    this.#remove.addEventListener("click", () => owner.onRemove(project));
    this.#retry.addEventListener("click", () => owner.client.reconnect());
    this.#dismiss.addEventListener("click", () => this.#dismissGap());
    this.#all.addEventListener("click", () => this.#unfold());
    this.#unsubscribe = this.#store.subscribe(() => this.#draw(), {
      onEvent: (event) => this.#onEvent(event),
      onTerminal: (job, event, what) => what === "job" && this.#onTerminal(job, event),
    });
    this.#draw();
  }

  /** Take the project off the page. */
  close(): void {
    this.#unsubscribe();
    clearTimeout(this.#release);
    this.#owner.announcer.forget(this.project);
    this.element.remove();
  }

  /** True: the page shows other projects too. */
  set isRemovable(isRemovable: boolean) {
    setHidden(this.#remove, !isRemovable, this.#name);
  }

  focus(): void {
    this.#name.focus();
    this.element.scrollIntoView();
  }

  /** Called every second. */
  tick(): void {
    const now = Date.now();
    const snapshot = this.#store.getSnapshot();
    this.#drawHead(snapshot, now);
    if (connectionState(snapshot) !== "connected") return; // events do not arrive, so silence means nothing
    for (const card of this.#cards.values()) card.tick(now);
  }

  #draw(): void {
    const now = Date.now();
    const snapshot = this.#store.getSnapshot();
    const moved = changed(this.#jobs, snapshot.jobs);
    if (this.#jobs !== snapshot.jobs) {
      const isAsMany = Object.keys(this.#jobs).length === Object.keys(snapshot.jobs).length;
      this.#jobs = snapshot.jobs;
      for (const job of moved) this.#drawCard(job, now);
      const isInPlace = (job: Job): boolean => !job.isTerminal && !!this.#cards.get(job.jobId)?.isOn("running");
      if (!isAsMany || !moved.every(isInPlace)) {
        this.#shelve(now);
      }
    }
    this.#changes.clear();
    this.#drawCounts(snapshot.jobCounts);
    this.#drawHead(snapshot, now);
  }

  #drawCard(job: Job, now: number): void {
    this.#cards.get(job.jobId)?.draw(job, now, this.#changes.get(job.jobId));
  }

  /** Note what the next frame has to draw. An event without a sentence may begin the job anew. */
  #onEvent(event: JobEvent): void {
    const { jobId, sentenceId, isReplay } = event;
    const changes = this.#changes.get(jobId) ?? new Map<string, JobEvent>();
    const isBegin = sentenceId === undefined && event.type === "progress" && event.progress === 0;
    if (isReplay || isBegin || changes === "all") this.#changes.set(jobId, "all");
    else if (sentenceId !== undefined) this.#changes.set(jobId, changes.set(sentenceId, event));
    else this.#changes.set(jobId, changes);
  }

  // The head

  #drawHead(snapshot: Snapshot, now: number): void {
    const state = connectionState(snapshot);
    this.#status.dataset["state"] = state;
    setText(this.#statusText, statusText(snapshot, now));
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
    if (state !== "connecting") this.#owner.announcer.onState(this.project, state);
  }

  #dismissGap(): void {
    this.#isGapKnown = true;
    this.#drawHead(this.#store.getSnapshot(), Date.now());
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
    this.#fill(this.#running, cards(running, "running"));
    this.#fill(this.#ended, cards(shown(ended, this.#isUnfolded), "ended"));
    this.#drawCounts(this.#store.getSnapshot().jobCounts);
    setHidden(this.#all, ended.length <= FOLD, this.#name);
    setText(this.#all, this.#isUnfolded ? "Show fewer" : `Show all ${count(ended.length)}`);
    this.#all.setAttribute("aria-expanded", String(this.#isUnfolded));
    keepFocus(focused);
  }

  #fill(shelf: HTMLElement, cards: readonly Element[]): void {
    const list = find(shelf, "ul");
    place(list, cards);
    list.classList.toggle("crowd", cards.length >= CROWD);
    setHidden(shelf, !cards.length);
  }

  /** "1,000 of 1,500" where not all are known. Those that are celebrated still stand among the running ones. */
  #drawCounts({ running, leftOut }: Snapshot["jobCounts"]): void {
    const { length } = this.#shelves.running;
    setText(this.#runningCount, leftOut ? `${count(length)} of ${count(length + leftOut)}` : count(length));
    setText(this.#endedCount, count(this.#shelves.ended.length));
    if (running + leftOut === this.running) return;
    this.running = running + leftOut;
    this.#owner.onCount();
  }

  #unfold(): void {
    this.#isUnfolded = !this.#isUnfolded;
    this.#place(Date.now());
  }

  // News

  #onTerminal(job: Job, event: JobEvent): void {
    if (event.isReplay) return; // an old end
    this.#owner.announcer.onEnd(job);
    const isShown = this.#shelves.running.includes(job.jobId);
    if (!isShown || this.#held.size >= MOST_CELEBRATED) return;
    this.#held.set(job.jobId, Date.now() + CELEBRATION_MS);
    this.#cards.get(job.jobId)?.celebrate(true);
    this.#release ??= setTimeout(() => this.#onRelease(), CELEBRATION_MS);
  }

  #onRelease(): void {
    const now = Date.now();
    for (const [id, until] of this.#held) {
      if (until > now) continue;
      this.#held.delete(id);
      this.#cards.get(id)?.celebrate(false);
    }
    const [next] = this.#held.values();
    this.#release = next === undefined ? undefined : setTimeout(() => this.#onRelease(), next - now);
    this.#shelve(now);
  }
}
