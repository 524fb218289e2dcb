/** The token of a client: asked for when it is needed, kept for its life, and replaced before that ends. */

import { backoff, between, later } from "./backoff.js";

const LEAST_REFRESH_MS = 1_000; // a gateway that gives tokens no life must not have the page ask without end
const FAILURES = 4; // a refresh that fails is no hurry yet: it waits as after so many failures
const MOST_REFUSALS = 3;

/** `null`: nobody is signed in, so do not connect. `undefined`: connect without a token. */
export type Token = string | null | undefined;
export type GetToken = () => Token | Promise<Token>;

/** Lives as long as its client. Lives of tokens are durations that the gateway tells: the page's clock may be wrong. */
export class Tokens {
  /** What `getToken` gave last; undefined after the gateway refused it. */
  token: Token;
  #getToken: GetToken;
  /** Called when `getToken` gave something. */
  #onToken: () => void;
  /** How often it asked. */
  #asked = 0;
  /** The timer of the refresh; undefined if none is planned. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** How many tokens in a row the gateway refused at once. */
  #refusals = 0;

  constructor(getToken: GetToken, onToken: () => void) {
    this.#getToken = getToken;
    this.#onToken = onToken;
  }

  /** Have a token in `token`, by asking if need be. Fails as `getToken` does. A link that waits for it has its own bound. */
  async prepare(mustAsk = !this.token): Promise<void> {
    if (!mustAsk) return;
    const number = ++this.#asked;
    const token = await this.#getToken();
    if (number !== this.#asked) return; // the answer took so long that the next one was asked for
    this.rest();
    this.token = token;
    this.#onToken();
  }

  /** The gateway took the token, which has this life. The next connection will say so again, with less of it. */
  onAuthorised(expiresIn: number): void {
    if (this.#timer) return;
    this.#refreshIn(Math.max(LEAST_REFRESH_MS, between(0.6, 0.85) * expiresIn));
  }

  /** Ask for the next token then. While that fails the old one serves, until the gateway refuses it. */
  #refreshIn(ms: number): void {
    this.#timer = later(ms, () => {
      this.#timer = undefined;
      this.prepare(true).catch(() => this.#refreshIn(backoff(FAILURES)));
    });
  }

  /**
   * The gateway refused this token. Returns whether to ask for another one. `wasGood`: it had served for a while, so that
   * it expired, say.
   */
  refuse(token: Token, wasGood: boolean): boolean {
    // Otherwise a second connection with the same token was closed too, or a newer one has come meanwhile.
    if (token === this.token) {
      this.#refusals = wasGood ? 0 : this.#refusals + 1;
      this.drop();
    }
    return !!token && this.#refusals < MOST_REFUSALS;
  }

  /** Ask for another token when one is needed. */
  drop(): void {
    this.token = undefined;
    this.rest();
  }

  /** Nothing is watched: do not refresh. */
  rest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
