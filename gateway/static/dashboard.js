/** The page that shows a project's jobs as they go. Draws once a frame, and data as text only. */

import { Board, silence } from "./board.js";
import { Client, PROJECT_ID } from "./client.js";

const CELEBRATION_MS = 1_600; // how long a job that just ended stays where it was
const GAP_NOTICE_MS = 15_000;
const SHOWN_ENDED = 24; // as in dashboard.css
const STATUS_TEXT = { connected: "Connected", connecting: "Connecting", disconnected: "Disconnected" };
const byId = (id) => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setBar(bar, percent, label) {
  bar.setAttribute("aria-label", label);
  bar.setAttribute("aria-valuenow", String(Math.round(percent)));
  bar.firstElementChild.style.setProperty("--percent", String(percent));
}

/** Seconds as people read them: 3.5 s, 1:05. */
function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function outcome({ state, error, result = {} }) {
  if (state === "failed") return error || "Failed";
  const words = [result.file, result.duration == null ? null : duration(result.duration)];
  return words.filter((word) => word != null).join(" · ");
}

/** The text of a part: how it goes, or how it ended. */
function text(part) {
  return part.state === "running" ? part.message : outcome(part);
}

const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** One job on the page. */
class Card {
  element = clone("card");
  #rows = new Map();
  #find = (selector) => this.element.querySelector(selector);
  #nodes = {
    use: this.#find("use"), id: this.#find(".id"), kind: this.#find(".kind"), mark: this.#find(".mark"),
    percent: this.#find(".percent"), bar: this.#find(".bar"), text: this.#find(".text"),
    details: this.#find("details"), summary: this.#find("summary"), list: this.#find("ul"),
  };

  draw(job, listeningSince, now) {
    const { element } = this;
    const nodes = this.#nodes;
    const overdue = Math.max(...[...job.parts.values()].map((part) => silence(part, listeningSince, now)));
    element.dataset.type = job.type;
    element.dataset.state = job.state;
    element.toggleAttribute("data-silent", overdue > 0);
    if (job.state === "running") element.classList.remove("news"); // it was tried again at once
    const icon = job.state === "running" ? job.type : job.state;
    nodes.use.setAttribute("href", `#icon-${icon}`);
    setText(nodes.id, job.id);
    nodes.id.title = job.id;
    setText(nodes.kind, job.attempt > 0 ? `${job.type} · attempt ${job.attempt}` : job.type);
    setText(nodes.mark, overdue ? `silent for ${duration(overdue)}` : "");
    setText(nodes.percent, job.state === "failed" ? "failed" : `${Math.floor(job.percent)} %`);
    setBar(nodes.bar, job.percent, `${job.type} ${job.id}`);
    setText(nodes.text, this.#text(job));
    this.#drawSentences(job, listeningSince, now);
  }

  #text({ own, state, sentences }) {
    if (state === "running") return own?.message ?? ""; // those of sentences stand beside their bars
    if (own) return outcome(own);
    const failed = sentences.filter((part) => part.state === "failed");
    return failed.length ? `${failed.length} of ${sentences.length} failed: ${outcome(failed[0])}` : "";
  }

  #drawSentences({ sentences }, listeningSince, now) {
    const { details, summary: heading, list } = this.#nodes;
    details.hidden = sentences.length === 0;
    const done = sentences.filter((part) => part.state === "complete").length;
    setText(heading, `${done} of ${sentences.length} sentences`);
    for (const [index, part] of sentences.entries()) {
      let row = this.#rows.get(part.sentenceId);
      if (!row) {
        row = clone("sentence");
        this.#rows.set(part.sentenceId, row);
        list.insertBefore(row, list.children[index] ?? null);
      }
      if (row.order !== part.order) this.#drawRow(row, part);
      row.toggleAttribute("data-silent", silence(part, listeningSince, now) > 0);
    }
  }

  #drawRow(row, part) {
    row.order = part.order;
    row.dataset.state = part.state;
    setText(row.querySelector(".id"), part.sentenceId);
    setText(row.querySelector(".percent"), part.state === "failed" ? "failed" : `${Math.floor(part.percent)} %`);
    setText(row.querySelector(".text"), text(part));
    row.querySelector(".text").title = text(part);
    setBar(row.querySelector(".bar"), part.percent, `sentence ${part.sentenceId}`);
  }

  /** Fold the sentences of a job that ended away, and back when it runs again. */
  fold(isFolded) {
    this.#nodes.details.open = !isFolded;
  }

  celebrate() {
    this.element.classList.add("news");
    setTimeout(() => this.element.classList.remove("news"), CELEBRATION_MS);
  }
}

/** The whole page for one project. Events change the board at once and the page at the next frame. */
class Page {
  #board = new Board();
  #cards = new Map();
  #changed = new Set();
  #ends = []; // jobs that ended since the last frame, to be said aloud
  #frame = 0;
  #clock;
  #client = null;
  #status = { state: "connecting", isStale: false, reason: "" };
  #listeningSince = Infinity;
  #gapAt = -Infinity;
  #isClosed = false;

  constructor(projectId) {
    this.projectId = projectId;
    for (const id of ["running", "ended"]) byId(id).replaceChildren();
    byId("project").value = projectId;
    setText(byId("name"), projectId);
    setText(byId("example"), projectId);
    if (PROJECT_ID.test(projectId)) {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      this.#client = new Client(`${scheme}://${location.host}/ws`, projectId, this);
    } else {
      this.onStatus({ state: "disconnected", isOver: true, reason: "This is not a project id." });
    }
    this.#clock = setInterval(() => this.#tick(), 1_000);
  }

  close() {
    this.#client?.stop();
    clearInterval(this.#clock);
    cancelAnimationFrame(this.#frame);
    this.#isClosed = true;
  }

  wake() {
    this.#client?.wake();
  }

  onEvent(event, isNews) {
    const before = this.#board.jobs.get(event.jobId)?.state;
    const job = this.#board.apply(event);
    if (!job) return;
    if (isNews && before === "running" && job.state !== "running") {
      job.endedAt = performance.now();
      this.#ends.push(job);
      setTimeout(() => this.#change(job.id), CELEBRATION_MS + 50);
    }
    this.#change(job.id);
  }

  onGap() {
    this.#gapAt = performance.now();
    for (const id of this.#board.forgetRunning()) this.#change(id);
  }

  onStatus(status) {
    const isListening = status.state === "connected" && !status.isStale;
    if (!isListening) this.#listeningSince = Infinity;
    else if (this.#listeningSince === Infinity) this.#listeningSince = performance.now();
    this.#status = status;
    this.#change();
  }

  #tick() {
    for (const job of this.#board.jobs.values()) if (job.state === "running") this.#change(job.id);
    this.#change();
  }

  #change(id) {
    if (this.#isClosed) return;
    if (id !== undefined) this.#changed.add(id);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    for (const id of this.#board.trim()) this.#changed.add(id);
    for (const id of this.#changed) this.#drawJob(id, this.#board.jobs.get(id));
    this.#changed.clear();
    this.#announce();
    this.#drawStatus();
    this.#drawCounts();
  }

  #drawJob(id, job) {
    let card = this.#cards.get(id);
    if (!job) {
      card?.element.remove();
      this.#cards.delete(id);
      return;
    }
    if (!card) this.#cards.set(id, (card = new Card()));
    const now = performance.now();
    card.draw(job, this.#listeningSince, now);
    this.#place(card, job, now);
  }

  /** Running jobs stay in the order in which they came; ended ones move below, the newest first. */
  #place(card, job, now) {
    const home = card.element.parentNode;
    const lingers = home === byId("running") && now - (job.endedAt ?? -Infinity) < CELEBRATION_MS;
    if (job.state === "running") {
      if (home !== byId("running")) byId("running").append(card.element);
      if (home) card.fold(false);
    } else if (!lingers && home !== byId("ended")) {
      card.fold(true);
      byId("ended").prepend(card.element);
    }
  }

  #announce() {
    const ends = this.#ends.splice(0);
    if (ends.length === 0) return;
    for (const job of ends) this.#cards.get(job.id)?.celebrate();
    const said = ends.slice(0, 3).map((job) => `${job.type} ${job.id} ${job.state}`);
    if (ends.length > 3) said.push(`and ${ends.length - 3} more`);
    byId("announcer").textContent = said.join(", ");
  }

  #drawStatus() {
    const { state, isStale, isOver, retryAt } = this.#status;
    const isOld = isStale && state === "connected";
    const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
    byId("status").dataset.state = isOld ? "stale" : state;
    const waits = state === "disconnected" && !isOver;
    setText(byId("status-text"), isOld ? "Stale" : STATUS_TEXT[state] + (waits ? `, again in ${seconds} s` : ""));
    document.body.toggleAttribute("data-old", isOld || state !== "connected");
    const notice = this.#notice();
    setText(byId("notice"), notice);
    byId("notice").hidden = !notice;
  }

  #notice() {
    const { state, isStale, reason } = this.#status;
    if (isStale && state !== "disconnected") {
      return "The gateway lost its own feed. What you see may be old until it is back.";
    }
    if (state !== "connected") return reason;
    if (performance.now() - this.#gapAt > GAP_NOTICE_MS) return "";
    return "Some events were missed while away. What you see is what the gateway remembers.";
  }

  #drawCounts() {
    const total = this.#board.jobs.size;
    const running = byId("running").childElementCount;
    const ended = byId("ended").childElementCount;
    setText(byId("running-count"), String(running));
    setText(byId("ended-count"), String(ended));
    byId("running-section").hidden = running === 0;
    byId("ended-section").hidden = ended === 0;
    byId("empty").hidden = total > 0 || this.#status.state !== "connected";
    byId("all").hidden = ended <= SHOWN_ENDED;
    setText(byId("all"), byId("ended").classList.contains("few") ? `Show all ${ended}` : "Show fewer");
    document.title = `${running ? `(${running}) ` : ""}${this.projectId} · Progress Gateway`;
  }

  redraw() {
    this.#change();
  }
}

let page = null;

function show() {
  page?.close();
  page = new Page(new URLSearchParams(location.search).get("project")?.trim() || "demo");
}

byId("pick").addEventListener("submit", (event) => {
  event.preventDefault();
  const projectId = byId("project").value.trim();
  if (projectId !== page.projectId) history.pushState(null, "", `/?${new URLSearchParams({ project: projectId })}`);
  show();
});
byId("all").addEventListener("click", () => {
  byId("ended").classList.toggle("few");
  page.redraw();
});
addEventListener("popstate", show);
addEventListener("online", () => page.wake());
document.addEventListener("visibilitychange", () => document.hidden || page.wake());
show();
