/** While Redis or the gateway is away: how long a publisher tries, and when it stops asking. The figures are Python's. */

export const GIVE_UP_MS = 5_000; // for one publication, all its tries together
export const ANSWER_MS = 1_000; // for one answer of Redis
const RETRY_DELAYS_MS = [50, 100, 200, 400, 800] as const;
const PROBE_PAUSE_MS = 100;
const MOST_PROBE_PAUSE_MS = 500;
// While the circuit is open, an event may wait GRACE_MS for a probe that is about to succeed, but only one event in
// GRACE_PAUSE_MS. So a job is hardly slowed down, and an event just before Redis answers again is not lost.
const GRACE_MS = 250;
const GRACE_PAUSE_MS = 4_000;

export const now = (): number => performance.now();

/** An error of the transport. `isPassing`: the same request may succeed later. */
export class TransportError extends Error {
  override readonly name = "TransportError";
  readonly isPassing: boolean;
  /** Milliseconds that the server asked to wait for. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, isPassing: boolean, retryAfterMs?: number, options?: ErrorOptions) {
    super(message, options);
    this.isPassing = isPassing;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The circuit is open: nobody answered a moment ago, so nobody was asked. */
export class NotAsked extends TransportError {
  constructor() {
    super("it did not answer a moment ago, so it was not asked again", true);
  }
}

/** A pause between tries. It keeps the process alive: something is being sent. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * The answer, or an error after `ms`.
 *
 * A job may have blocked the event loop for seconds. Then the timer fires before the answer, which is there already, is
 * read: so the answer has one more turn of the loop.
 */
export async function within<T>(answer: Promise<T>, ms: number, onTimeout?: () => void): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        setImmediate(() =>
          setImmediate(() => {
            reject(new TransportError(`no answer within ${(ms / 1000).toFixed(1)} s`, true));
            onTimeout?.();
          }),
        ),
      ms,
    );
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Whether a server is worth asking. A publication that was given up opens it. From then on a timer asks for all, until
 * the server answers; the events that come meanwhile are given up at once, so that a job with a thousand of them is
 * delayed by the first one only.
 */
export class Circuit {
  #isOpen = false;
  #waitedAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #waiting: (() => void)[] = [];

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Stop asking. `probe` is called until it succeeds, or fails with what no waiting mends; then `answered` is called. */
  open(probe: () => Promise<unknown>, answered: () => void): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#ask(probe, answered, PROBE_PAUSE_MS);
  }

  /** Stop probing. */
  close(): void {
    clearTimeout(this.#timer);
    this.#isOpen = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #ask(probe: () => Promise<unknown>, answered: () => void, pauseMs: number): void {
    this.#timer = setTimeout(async () => {
      try {
        await probe();
      } catch (error) {
        if (this.#isOpen && error instanceof TransportError && error.isPassing) {
          this.#ask(probe, answered, Math.min(2 * pauseMs, MOST_PROBE_PAUSE_MS));
          return;
        }
      }
      if (!this.#isOpen) return;
      this.close();
      answered();
    }, pauseMs);
    this.#timer.unref(); // to ask is no reason for a process to go on
  }

  /** Resolve if the server is worth a try, else throw `NotAsked`. */
  async wait(): Promise<void> {
    if (!this.#isOpen) return;
    if (now() - this.#waitedAt >= GRACE_PAUSE_MS) {
      this.#waitedAt = now();
      await Promise.race([new Promise<void>((resolve) => this.#waiting.push(resolve)), pause(GRACE_MS)]);
    }
    if (this.#isOpen) throw new NotAsked();
  }
}

/** How long one batch of publications is tried. */
export class Patience {
  readonly #circuit: Circuit;
  readonly #began = now();
  #tryBegan = this.#began;
  #longestTry = 0;
  #tries = 0;

  constructor(circuit: Circuit) {
    this.#circuit = circuit;
  }

  /**
   * Milliseconds to wait before the next try, with jitter, or undefined to give up.
   *
   * The next try must end in time, too. It is expected to take as long as the longest try so far. So if connections are
   * refused at once, there is time for a try at the very end; if nobody answers, there is not.
   */
  delayAfter(error: TransportError): number | undefined {
    const time = now();
    this.#longestTry = Math.max(this.#longestTry, time - this.#tryBegan);
    const most = RETRY_DELAYS_MS[Math.min(this.#tries++, RETRY_DELAYS_MS.length - 1)] as number;
    const delay = Math.max(most * (0.5 + Math.random() / 2), error.retryAfterMs ?? 0);
    const isLast = this.#circuit.isOpen || time - this.#began + delay + this.#longestTry > GIVE_UP_MS;
    if (isLast || !error.isPassing) return undefined;
    this.#tryBegan = time + delay;
    return delay;
  }

  get seconds(): number {
    return (now() - this.#began) / 1000;
  }

  /** Milliseconds that are left for a try. */
  get leftMs(): number {
    return Math.max(0, GIVE_UP_MS - (now() - this.#began));
  }
}
