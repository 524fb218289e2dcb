/** The replica that serves this page: its clients, and the state of its feed. */

import { setText } from "./dom.js";
import { plural } from "./words.js";

const POLL_MS = 5_000;
const TIMEOUT_MS = 4_000;

/** What /readyz answers, with 200 or 503. The last two only to who may know: see docs/operating.md. */
interface Readiness {
  readonly ready: boolean;
  readonly draining: boolean;
  /** The state of the feed: one of `FEED_TEXTS`, or a new one. */
  readonly redis?: string;
  readonly clients?: number;
}

const FEED_TEXTS: Record<string, string> = {
  live: "feed live",
  loading: "feed catching up",
  down: "feed lost",
  closed: "feed ended",
};

/** What is shown; `null` means that there was no answer. */
export function describe(readiness: Readiness | null): { state: "ready" | "unready" | "unreachable"; text: string } {
  if (!readiness) return { state: "unreachable", text: "unreachable" };
  const { ready, draining, redis, clients } = readiness;
  if (redis === undefined || clients === undefined) {
    return { state: ready ? "ready" : "unready", text: draining ? "shutting down" : ready ? "ready" : "not ready" };
  }
  const feed = Object.hasOwn(FEED_TEXTS, redis) ? FEED_TEXTS[redis]! : `feed ${redis}`;
  const quiet = !ready && !draining && redis === "live" ? "no events arrive" : "";
  const words = [plural(clients, "client"), feed, draining ? "shutting down" : quiet];
  return { state: ready ? "ready" : "unready", text: words.filter(Boolean).join(" · ") };
}

async function fetchReadiness(): Promise<Readiness | null> {
  try {
    const answer = await fetch("readyz", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const readiness = (await answer.json()) as Partial<Readiness> | null;
    const isReadiness = typeof readiness?.ready === "boolean" && typeof readiness.draining === "boolean";
    return isReadiness ? (readiness as Readiness) : null; // a proxy may answer with JSON of its own
  } catch {
    return null;
  }
}

/** Polls /readyz while the page is visible. Lives as long as the page. */
export class Replica {
  /** The element that shows the state, by its colour. */
  #element: HTMLElement;
  /** The element that shows the text. */
  #text: Element;
  /** The timer between polls; stopped while the page is hidden. */
  #timer: ReturnType<typeof setInterval> | undefined;
  /** The number of the last request: answers to older ones are ignored. */
  #lastRequest = 0;

  constructor(element: HTMLElement, text: Element) {
    this.#element = element;
    this.#text = text;
    document.addEventListener("visibilitychange", () => this.poll());
  }

  /** Poll now, and from now on every POLL_MS. */
  poll(): void {
    clearInterval(this.#timer);
    if (document.hidden) return;
    this.#timer = setInterval(() => void this.#update(), POLL_MS);
    void this.#update();
  }

  async #update(): Promise<void> {
    const request = ++this.#lastRequest;
    const { state, text } = describe(await fetchReadiness());
    if (request !== this.#lastRequest) return; // a newer request started meanwhile, so this answer is out of date
    this.#element.dataset["state"] = state;
    setText(this.#text, text);
  }
}
