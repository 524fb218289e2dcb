/** The replica that serves this page: how many clients it has, and whether its feed brings events. */

import { setText } from "./dom.js";
import { plural } from "./words.js";

const EVERY_MS = 5_000;
const PATIENCE_MS = 4_000;

/** What /readyz answers, with 200 or 503. */
export interface Readiness {
  readonly ready: boolean;
  readonly draining: boolean;
  /** The state of the feed. */
  readonly redis: string;
  readonly clients: number;
}

const FEEDS: Record<string, string> = {
  live: "feed live",
  loading: "feed catching up",
  down: "feed lost",
  closed: "feed ended",
};

/** What is shown; null: nobody answered. */
export function describe(readiness: Readiness | null): { state: "ready" | "unready" | "unreachable"; text: string } {
  if (!readiness) return { state: "unreachable", text: "unreachable" };
  const { ready, draining, redis, clients } = readiness;
  const feed = Object.hasOwn(FEEDS, redis) ? FEEDS[redis]! : `feed ${redis}`;
  const quiet = !ready && !draining && redis === "live" ? "no events arrive" : "";
  const words = [plural(clients, "client"), feed, draining ? "shutting down" : quiet];
  return { state: ready ? "ready" : "unready", text: words.filter(Boolean).join(" · ") };
}

async function ask(): Promise<Readiness | null> {
  try {
    const answer = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const readiness = (await answer.json()) as Partial<Readiness> | null;
    const isOne = typeof readiness?.redis === "string" && typeof readiness.clients === "number";
    return isOne ? (readiness as Readiness) : null; // a proxy's error page is none
  } catch {
    return null;
  }
}

/** Asks for as long as somebody looks. */
export class Replica {
  #element: HTMLElement;
  #text: Element;
  #timer: ReturnType<typeof setInterval> | undefined;
  #asked = 0;

  constructor(element: HTMLElement, text: Element) {
    this.#element = element;
    this.#text = text;
    document.addEventListener("visibilitychange", () => this.watch());
  }

  /** Ask now, and then again and again. */
  watch(): void {
    clearInterval(this.#timer);
    if (document.hidden) return;
    this.#timer = setInterval(() => void this.#ask(), EVERY_MS);
    void this.#ask();
  }

  async #ask(): Promise<void> {
    const question = ++this.#asked;
    const { state, text } = describe(await ask());
    if (question !== this.#asked) return; // a newer one is under way: this answer is of the past
    this.#element.dataset["state"] = state;
    setText(this.#text, text);
  }
}
