/** One WebSocket to the gateway. */

import type { ClientMessage } from "./messages.js";
import type { Token } from "./tokens.js";

const CONNECT_MS = 10_000; // for the token, TCP, TLS and the upgrade together
const SILENCE_MS = 25_000; // after this long without a message the link sends a `ping` ...
const ANSWER_MS = 5_000; // ... and ends if nothing arrives within this time

const BLOCKED = "See the Content-Security-Policy";

/** The part of a WebSocket that is used here. */
export interface Socket {
  // biome-ignore-start lint/suspicious/noExplicitAny: the types of these events differ between browsers and `ws`
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  // biome-ignore-end lint/suspicious/noExplicitAny: as above
  send(text: string): void;
  close(): void;
}

export type SocketType = new (url: string) => Socket;

export interface LinkOwner {
  onOpen(link: Link): void;
  onText(link: Link, text: unknown): void;
  /** Called exactly once, but not if the owner closed the link itself. */
  onEnd(link: Link, code: number | string, reason: string, isFinal: boolean): void;
}

/** Lives from the decision to connect to the end of the connection, and is not used again. */
export class Link {
  /** The gateway sent `stale` on it: the replica has lost Redis. */
  isStale = false;
  /** The socket is open, and the link has not ended. */
  isOpen = false;
  /** The token that was sent on it last. */
  token: Token;
  /** When it was first authorised, or a project subscribed on it, in ms since the epoch: only then it is known to work. */
  workingSince: number | undefined;
  /** When the last message arrived (or the socket opened), in ms since the epoch. */
  heardAt = Date.now();
  /** The object that is called when something happens on the link. */
  #owner: LinkOwner;
  /** The socket; undefined until the token is there. */
  #socket: Socket | undefined;
  /** The only timer. It sends the next `ping`; while an answer is due, it ends the link instead. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the link ends unless a message arrives; Infinity while no answer is due. */
  #deadline = Infinity;
  /** What each `ping` that has no answer yet calls then, the oldest first. */
  #pings: (() => void)[] = [];
  /** The link has ended. Sockets may still call back after `close()`; such calls are ignored. */
  #isEnded = false;

  constructor(owner: LinkOwner) {
    this.#owner = owner;
    this.#expectAnswer(CONNECT_MS);
  }

  /** Open the socket that `connect` returns. `mayRecover`: after an exception, the next call may do better. */
  open(connect: () => Socket, mayRecover: boolean): void {
    if (this.#isEnded) return; // the token came after CONNECT_MS
    try {
      const socket = (this.#socket = connect());
      socket.onopen = () => {
        if (this.#isEnded) return;
        this.isOpen = true;
        this.#onHeard();
        this.#owner.onOpen(this);
      };
      socket.onmessage = ({ data }) => {
        if (this.#isEnded) return;
        this.#onHeard();
        this.#owner.onText(this, data);
      };
      socket.onclose = ({ code, reason }) => this.end(code, reason);
      socket.onerror = () => {
        // `close` follows in the same task. Not so in Chromium where the page's Content-Security-Policy forbids the URL.
        if (!this.isOpen) setTimeout(() => this.end("cannot_connect", BLOCKED));
      };
    } catch (error) {
      // A missing WebSocket class is a ReferenceError.
      this.end("cannot_connect", String(error), !mayRecover || error instanceof ReferenceError);
    }
  }

  /** Send a message; a link that is not open drops it. */
  send(message: ClientMessage): void {
    if (this.isOpen) this.#socket!.send(JSON.stringify(message));
  }

  /**
   * Send a `ping`, and end the link if nothing arrives within `ms`: a socket that looks open may be long dead. The
   * gateway answers in order, so at `onPong` everything has arrived that it had sent before.
   */
  probe(ms = ANSWER_MS, onPong = (): void => {}): void {
    if (!this.isOpen) return;
    this.send({ type: "ping" });
    this.#pings.push(onPong);
    if (Date.now() + ms < this.#deadline) this.#expectAnswer(ms);
  }

  /** The gateway answered the oldest `ping`. */
  onPong(): void {
    this.#pings.shift()?.();
  }

  /** End the link and tell its owner why. `isFinal`: it would be the same again. */
  end(code: number | string, reason = "", isFinal = false): void {
    if (this.close()) this.#owner.onEnd(this, code, reason, isFinal);
  }

  /** End the link without a call to its owner. Returns false if it had ended before. */
  close(): boolean {
    const wasAlive = !this.#isEnded;
    this.#isEnded = true;
    this.isOpen = false;
    clearTimeout(this.#timer);
    this.#socket?.close();
    return wasAlive;
  }

  #onHeard(): void {
    this.heardAt = Date.now();
    this.#deadline = Infinity;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.probe(), SILENCE_MS);
  }

  #expectAnswer(ms: number): void {
    this.#deadline = Date.now() + ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end("no_answer"), ms);
  }
}
