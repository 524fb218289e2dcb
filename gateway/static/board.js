/** What is known of a project's jobs, from their events. Knows no page and no connection. */

const ENDS = { job_complete: "complete", job_failed: "failed" };
const MOST_JOBS = 1_000; // as many as the gateway remembers of a project

/** Whether `event` is newer than what `part` says. Ends are sticky within an attempt. */
function isNewer(part, event) {
  if (!part) return true;
  if (event.attempt !== part.attempt && event.attempt != null && part.attempt != null) {
    return event.attempt > part.attempt;
  }
  const isEnd = event.type in ENDS;
  const isRunning = part.state === "running";
  // An end beats a running job even with a lower seq: a Redis that failed over may have a clock that is behind.
  if (event.seq <= part.seq && !(isEnd && isRunning)) return false;
  return isRunning || event.attempt == null || part.attempt == null;
}

/** What `part` becomes by an event that is newer. A bar never goes backward within an attempt. */
function advance(part, event, order) {
  const isSameRun = part?.state === "running" && !(event.attempt > part.attempt);
  const before = isSameRun ? part : { percent: 0, message: "" };
  return {
    sentenceId: event.sentenceId,
    state: ENDS[event.type] ?? "running",
    percent: event.type === "job_complete" ? 100 : Math.max(before.percent, event.progress ?? 0),
    message: event.message ?? before.message,
    result: event.result,
    error: event.error,
    attempt: event.attempt,
    seq: event.seq,
    nextWithin: event.nextWithin,
    heardAt: performance.now(),
    order,
  };
}

/** The jobs of one project by id. A job has a part for itself, for its sentences, or for both. */
export class Board {
  jobs = new Map();
  #order = 0;

  /** Take one event; returns its job, or null if the event is older than what is known. */
  apply(event) {
    const job = this.jobs.get(event.jobId) ?? { id: event.jobId, type: event.jobType, parts: new Map() };
    const key = event.sentenceId ?? "";
    const part = job.parts.get(key);
    if (!isNewer(part, event)) return null;
    job.parts.set(key, advance(part, event, ++this.#order));
    Object.assign(job, summary(job), { type: event.jobType });
    this.jobs.delete(job.id); // so that the one that was not heard of for longest is first
    this.jobs.set(job.id, job);
    return job;
  }

  /** Forget the jobs that run: something was missed, so their fate is not known. Returns their ids. */
  forgetRunning() {
    const ids = [...this.jobs.values()].filter((job) => job.state === "running").map((job) => job.id);
    for (const id of ids) this.jobs.delete(id);
    return ids;
  }

  /** Keep the newest jobs only, so that a page may stay open for weeks. Returns the ids of those that went. */
  trim() {
    if (this.jobs.size <= MOST_JOBS) return [];
    const ids = [...this.jobs.keys()].slice(0, this.jobs.size - MOST_JOBS);
    for (const id of ids) this.jobs.delete(id);
    return ids;
  }
}

const { compare } = new Intl.Collator("en", { numeric: true }); // s2 before s10
const bySentence = (a, b) => compare(a.sentenceId, b.sentenceId);

/** A job as a whole: what its own events say, or without any, what those of its sentences add up to. */
function summary({ parts }) {
  const own = parts.get("");
  const sentences = [...parts.values()].filter((part) => part !== own).sort(bySentence);
  const isRunning = [...parts.values()].some((part) => part.state === "running" && part.order >= (own?.order ?? 0));
  const hasFailed = own ? own.state === "failed" : sentences.some((part) => part.state === "failed");
  const newest = [...parts.values()].reduce((a, b) => (b.order > a.order ? b : a));
  const sum = sentences.reduce((total, part) => total + part.percent, 0);
  return {
    own,
    sentences,
    state: isRunning ? "running" : hasFailed ? "failed" : "complete",
    percent: own ? own.percent : sum / sentences.length,
    attempt: newest.attempt,
  };
}

/** Seconds since a part's promised event is overdue, counted while the page could have heard it; 0 if it is not. */
export function silence(part, listeningSince, now) {
  const seconds = (now - Math.max(part.heardAt, listeningSince)) / 1000;
  return part.state === "running" && seconds > part.nextWithin ? Math.floor(seconds) : 0;
}
