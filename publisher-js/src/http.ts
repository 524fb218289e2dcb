/** Publishes by HTTP, through any replica of the gateway: `POST /projects/<id>/events`. */

import { Circuit, GIVE_UP_MS, now, TransportError, within } from "./circuit.js";
import { EventError, PublishError } from "./errors.js";
import { withAttempt } from "./events.js";
import type { Log } from "./log.js";
import type { Publication, Sent } from "./publication.js";
import { gatewayOf } from "./settings.js";
import { type Outcome, type Sending, type Server, sendByLane, sendTo, type Transport } from "./transport.js";
import type { HttpOptions } from "./types.js";

const MOST_AT_ONCE = 32; // requests; more would only wait for each other in the gateway
const MOST_BYTES = 1_000_000; // of a body; a gateway takes 1 MiB
const UNPROBED_MS = 30_000; // while /readyz tells nothing: a load balancer may not pass it on
const PROBE_MS = 1_000;

/** The other statuses are answers of a load balancer, or of a server that is no gateway. */
const HINTS: Readonly<Record<number, string>> = {
  401: "Give the publisher a key that stands in the gateway's GATEWAY_PUBLISH_KEYS.",
  403: "The claim `publish` of the token does not cover this project: make a token that names it.",
  404: "It is no gateway, or one without keys: set GATEWAY_PUBLISH_KEYS there, and give its address as `url`.",
  413: "The event is too long for a load balancer before the gateway: raise its limit of the body.",
  421: "The gateway does not answer to this host name: set GATEWAY_HOSTS there.",
  429: "More events a second than one key may send: see docs/operating.md, publishing by HTTP.",
};

interface Accepted {
  readonly seqs: readonly (number | null)[];
  readonly attempts?: readonly (number | null)[];
}

interface Refusal {
  readonly code?: string;
  readonly message?: string;
  readonly errors?: readonly { index?: number; field?: string; message: string }[];
}

export class HttpTransport implements Transport {
  readonly namespace = ""; // the gateway has its own
  readonly replay = true;
  readonly #log: Log;
  readonly #gateway: Gateway;
  // The events of a project that wait for the request before them: in order, and many in one request.
  readonly #queues = new Map<string, Promise<unknown>>();

  constructor(options: HttpOptions, log: Log) {
    const { url, key } = gatewayOf(options);
    const fetch = options.fetch ?? globalThis.fetch;
    if (typeof fetch !== "function") throw new EventError({ fetch: "must be a function like the global fetch" });
    this.#log = log;
    this.#gateway = new Gateway(url, key, fetch);
  }

  laneOf(projectId: string): string {
    return projectId;
  }

  isAway(): boolean {
    return this.#gateway.circuit.isOpen;
  }

  send(publications: readonly Publication[], strict = false): Promise<Sending> {
    return sendByLane(
      publications,
      (one) => one.projectId,
      (projectId, those) => this.#afterOthers(projectId, () => sendTo(this.#gateway, those, this.#log, strict)),
    );
  }

  /** Requests may overtake each other, and so would the events of a project. */
  async #afterOthers(projectId: string, send: () => Promise<Sending>): Promise<Sending> {
    const before = this.#queues.get(projectId);
    const sending = before === undefined ? send() : before.then(send, send);
    this.#queues.set(projectId, sending);
    try {
      return await sending;
    } finally {
      if (this.#queues.get(projectId) === sending) this.#queues.delete(projectId);
    }
  }

  async remembered(): Promise<never> {
    throw new PublishError("a gateway does not tell what it remembers: give { redis } to ask for last events");
  }

  async allRemembered(): Promise<never> {
    return this.remembered();
  }

  close(): void {
    this.#gateway.circuit.close();
  }
}

class Gateway implements Server {
  readonly circuit = new Circuit();
  readonly name: string;
  readonly #url: string;
  readonly #key: string;
  readonly #fetch: typeof globalThis.fetch;
  readonly #places = new Places(MOST_AT_ONCE);
  #lostAt = Number.POSITIVE_INFINITY;

  constructor(url: string, key: string, fetch: typeof globalThis.fetch) {
    this.#url = url;
    this.#key = key;
    this.#fetch = fetch;
    this.name = `The gateway at ${url}`;
  }

  inWords(error: TransportError): string {
    return error.message;
  }

  async try(batch: readonly Publication[], leftMs: number): Promise<readonly Outcome[]> {
    const until = now() + leftMs;
    await this.#places.take();
    const outcomes: Outcome[] = [];
    try {
      for (const chunk of chunksOf(batch)) {
        try {
          outcomes.push(...(await this.#post(chunk, until)));
        } catch (error) {
          if (outcomes.length === 0) throw error;
          const rest = batch.length - outcomes.length;
          outcomes.push(...Array<Outcome>(rest).fill(error as TransportError));
          break;
        }
      }
    } finally {
      this.#places.give();
    }
    this.#lostAt = Number.POSITIVE_INFINITY;
    return outcomes;
  }

  async #post(chunk: readonly Publication[], until: number): Promise<readonly Outcome[]> {
    const { projectId } = chunk[0] as Publication;
    const body = `[${chunk.map(({ payload }) => payload).join(",")}]`;
    const { status, text, retryAfterMs } = await this.#request(
      `/projects/${encodeURIComponent(projectId)}/events`,
      until,
      body,
    );
    const answer = parsed(text);
    if (status === 202 && isAccepted(answer, chunk.length)) return this.#outcomes(chunk, answer, until);
    const refusal = (answer ?? {}) as Refusal;
    if (status === 413 && chunk.length > 1) {
      const half = chunk.length >> 1;
      return [...(await this.#post(chunk.slice(0, half), until)), ...(await this.#post(chunk.slice(half), until))];
    }
    if (status === 422 && refusal.errors?.some(({ index }) => index !== undefined)) return refused(chunk, refusal);
    throw errorOf(status, refusal, retryAfterMs);
  }

  async #outcomes(chunk: readonly Publication[], { seqs, attempts }: Accepted, until: number): Promise<Outcome[]> {
    const outcomes = chunk.map((publication, index) =>
      sentOf(publication, seqs[index] ?? null, attempts?.[index] ?? undefined),
    );
    for (const [index, publication] of chunk.entries()) {
      const { leastAttempt = 0, event } = publication;
      // A gateway knows no "at least"; an attempt with a number of its own begins just as well.
      if (leastAttempt > ((outcomes[index] as Sent).attempt ?? leastAttempt)) {
        const again = withAttempt(event, leastAttempt);
        const numbered = { ...publication, event: again, payload: JSON.stringify(again), leastAttempt: undefined };
        const [outcome] = await this.#post([numbered], until);
        outcomes[index] = { ...(outcome as Sent), attempt: leastAttempt };
      }
    }
    return outcomes;
  }

  async probe(): Promise<unknown> {
    if (this.#lostAt === Number.POSITIVE_INFINITY) this.#lostAt = now();
    const { status } = await this.#request("/readyz", now() + PROBE_MS);
    const isKnown = [200, 429, 502, 503, 504].includes(status);
    if (status === 200 || (!isKnown && now() - this.#lostAt >= UNPROBED_MS)) {
      this.#lostAt = Number.POSITIVE_INFINITY;
      return status;
    }
    throw new TransportError(`it answers ${status}`, true);
  }

  async #request(
    path: string,
    until: number,
    body?: string,
  ): Promise<{ status: number; text: string; retryAfterMs?: number | undefined }> {
    const abort = new AbortController();
    const leftMs = Math.min(GIVE_UP_MS, Math.max(1, until - now()));
    try {
      return await within(this.#answer(path, abort.signal, body), leftMs, () => abort.abort());
    } catch (error) {
      if (error instanceof TransportError) throw error;
      throw new TransportError(`${reasonOf(error)}. Is it running, and is \`url\` its address?`, true, undefined, {
        cause: error,
      });
    }
  }

  async #answer(
    path: string,
    signal: AbortSignal,
    body?: string,
  ): Promise<{ status: number; text: string; retryAfterMs?: number | undefined }> {
    const headers =
      body === undefined ? {} : { authorization: `Bearer ${this.#key}`, "content-type": "application/json" };
    const method = body === undefined ? "GET" : "POST";
    // A redirection would be followed by GET, and the events would be lost in silence.
    const fetch = this.#fetch; // some refuse to be called as a method
    const answer = await fetch(`${this.#url}${path}`, {
      method,
      headers,
      body: body ?? null,
      signal,
      redirect: "manual",
    });
    const seconds = Number(answer.headers.get("retry-after") ?? Number.NaN);
    return {
      status: answer.status,
      text: await answer.text(),
      retryAfterMs: seconds >= 0 ? seconds * 1_000 : undefined,
    };
  }
}

function sentOf({ event, leastAttempt }: Publication, seq: number | null, attempt: number | undefined): Sent {
  if (leastAttempt !== undefined) return { seq, attempt };
  // A progress of an attempt is refused only where another attempt, or an end from elsewhere, came before it.
  const isReplaced = seq === null && event.type === "progress" && event.attempt !== undefined;
  return isReplaced ? { seq, replacedBy: -1 } : { seq };
}

function isAccepted(answer: unknown, count: number): answer is Accepted {
  const seqs = (answer as Accepted | undefined)?.seqs;
  return Array.isArray(seqs) && seqs.length === count;
}

/** Nothing was sent: what the gateway names does not fit, and the others are sent again. */
function refused(chunk: readonly Publication[], { errors = [] }: Refusal): Outcome[] {
  const problems = new Map(errors.map(({ index, field, message }) => [index, `${field ?? "event"}: ${message}`]));
  return chunk.map((_, index) => {
    const problem = problems.get(index);
    return new TransportError(problem ?? "another event of the request was refused", problem === undefined);
  });
}

function errorOf(status: number, { code, message }: Refusal, retryAfterMs: number | undefined): TransportError {
  const isPassing = [429, 502, 503, 504].includes(status) || status === 202;
  const said = [`${status}${code ? ` ${code}` : ""}`, message].filter(Boolean).join(": ").replace(/\.$/, "");
  const hint = status >= 300 && status < 400 ? "It is redirected: give the final address as `url`." : HINTS[status];
  return new TransportError(`it answers ${said}.${hint ? ` ${hint}` : ""}`, isPassing, retryAfterMs);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // what a load balancer answers is HTML
  }
}

/** `fetch failed` says nothing; its cause does. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as { code?: string; message?: string };
  return message || code || String(error);
}

/** Parts of a batch that fit into one body each. */
function* chunksOf(batch: readonly Publication[]): Generator<readonly Publication[]> {
  let first = 0;
  let bytes = 0;
  for (const [index, { payload }] of batch.entries()) {
    const size = Buffer.byteLength(payload) + 1;
    if (bytes + size > MOST_BYTES && index > first) {
      yield batch.slice(first, index);
      [first, bytes] = [index, 0];
    }
    bytes += size;
  }
  yield batch.slice(first);
}

/** A number of places, given in order to those who wait. */
class Places {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
