/** One WebSocket to the gateway. */

import type { ClientMessage } from "./messages.js";

const CONNECT_MS = 10_000; // for the whole way: token, TCP, TLS, upgrade
const SILENCE_MS = 25_000; // then the link asks for a sign of life ...
const ANSWER_MS = 5_000; // ... and is replaced if none comes

/** As much of a WebSocket as is used here. */
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

/** What a link tells its owner. */
export interface Owner {
  onOpen(link: Link): void;
  onText(link: Link, text: unknown): void;
  /** Told exactly once, unless the owner closed it. */
  onEnd(link: Link, code: number | string, reason: string): void;
}

/** Lives from the decision to connect to the end of the connection; is never used again. */
export class Link {
  /** It was told `stale`: its replica has lost Redis. */
  isStale = false;
  isOpen = false;
  /** When a project was first subscribed on it: from then on it is known to work. */
  goodSince: number | undefined;
  heardAt = Date.now();
  #owner: Owner;
  #socket: Socket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Infinity; // when something must have been heard
  #isEnded = false;

  constructor(owner: Owner) {
    this.#owner = owner;
    this.#expect(CONNECT_MS);
  }

  open(connect: () => Socket): void {
    if (this.#isEnded) return; // the token came too late
    try {
      const socket = (this.#socket = connect());
      socket.onopen = () => {
        if (this.#isEnded) return;
        this.isOpen = true;
        this.#heard();
        this.#owner.onOpen(this);
      };
      socket.onmessage = ({ data }) => {
        if (this.#isEnded) return;
        this.#heard();
        this.#owner.onText(this, data);
      };
      socket.onclose = ({ code, reason }) => this.end(code, reason);
      socket.onerror = () => {}; // `close` follows; Node's `ws` throws where nobody listens
    } catch (error) {
      this.end("cannot_connect", String(error));
    }
  }

  send(message: ClientMessage): void {
    if (this.isOpen) this.#socket!.send(JSON.stringify(message));
  }

  /** Ask for a sign of life: what looks open may be long dead, after a sleep for example. */
  probe(ms = ANSWER_MS): void {
    this.send({ type: "ping" });
    if (this.isOpen && Date.now() + ms < this.#due) this.#expect(ms);
  }

  end(code: number | string, reason = ""): void {
    if (this.close()) this.#owner.onEnd(this, code, reason);
  }

  /** Leave without a word to the owner. Says whether there was something to leave. */
  close(): boolean {
    const wasAlive = !this.#isEnded;
    this.#isEnded = true;
    this.isOpen = false;
    clearTimeout(this.#timer);
    this.#socket?.close();
    return wasAlive;
  }

  #heard(): void {
    this.heardAt = Date.now();
    this.#due = Infinity;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.probe(), SILENCE_MS);
  }

  #expect(ms: number): void {
    this.#due = Date.now() + ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end("no_answer"), ms);
  }
}
