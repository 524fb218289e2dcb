/** A client of the gateway's WebSocket, `/ws`, for one project. Knows no page. */

export const PROJECT_ID = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/;
const CONNECT_MS = 10_000;
const SILENCE_MS = 25_000; // then the page asks for a sign of life ...
const ANSWER_MS = 5_000; // ... and replaces a connection that gives none within this
const BACKOFF_MS = { least: 500, most: 20_000 };
const STABLE_MS = 5_000; // a connection that held this long starts the back-off anew: one that flaps does not

/** One WebSocket. Tells its owner each message and, exactly once, its end; a socket that hangs is ended from here. */
class Link {
  isStale = false;
  subscribedAt = Infinity;
  #socket;
  #owner;
  #timer;
  #isClosed = false;

  constructor(url, owner) {
    this.#owner = owner;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.#heard();
      owner.onOpen(this);
    };
    this.#socket.onmessage = ({ data }) => {
      this.#heard();
      owner.onMessage(this, JSON.parse(data));
    };
    this.#socket.onclose = ({ code, reason }) => this.end(code, reason);
    this.#timer = setTimeout(() => this.end(1006, "No answer"), CONNECT_MS);
  }

  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Ask for a sign of life: what looks open may be long dead, after a sleep for example. */
  probe() {
    clearTimeout(this.#timer);
    this.send({ type: "ping" });
    this.#timer = setTimeout(() => this.end(1006, "No answer"), ANSWER_MS);
  }

  end(code, reason) {
    if (this.close()) this.#owner.onClose(this, code, reason);
  }

  /** Leave without a word to the owner. Says whether it was still open. */
  close() {
    const wasOpen = !this.#isClosed;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    return wasOpen;
  }

  #heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.probe(), SILENCE_MS);
  }
}

/**
 * Watches one project and stays connected. Every connection begins as `#next` and takes over as `#link` when its
 * `subscribed` arrives, so that the first connection, a lost one and a move to another replica are one case.
 */
export class Client {
  #url;
  #projectId;
  #listener;
  #link = null;
  #next = null;
  #timer = 0;
  #retryAt = 0;
  #failures = 0;
  #cursor; // the last seq that arrived
  #head; // `subscribed.seq`: events up to it are replayed, those above are news
  #isOver = false;
  #reason = "";

  /** `listener` has onEvent(event, isNews), onGap() and onStatus({state, isStale, isOver, retryAt, reason}). */
  constructor(url, projectId, listener) {
    this.#url = url;
    this.#projectId = projectId;
    this.#listener = listener;
    this.#connect();
  }

  stop() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#link?.close();
    this.#next?.close();
    this.#link = this.#next = null;
  }

  /** The network or the person came back: do not wait, and do not trust what looks open. */
  wake() {
    if (this.#isOver) return;
    if (this.#link) this.#link.probe();
    else if (!this.#next) this.#connect();
  }

  onOpen(link) {
    this.#subscribe(link);
  }

  onMessage(link, message) {
    if (message.type === "stale" || message.type === "live") {
      link.isStale = message.type === "stale";
      this.#tell();
    } else if (message.type === "going_away") {
      const [least, most] = message.reconnectIn;
      if (link === this.#link && !this.#next) this.#connectIn(between(least, most));
    } else if (message.projectId === this.#projectId) {
      this.#onProjectMessage(link, message);
    } else if (message.type === "pong" && link === this.#link) {
      this.#cursor ??= this.#head; // whatever was replayed has arrived: it comes in one piece with `subscribed`
    }
  }

  #onProjectMessage(link, message) {
    if (message.type === "subscribed") {
      this.#onSubscribed(link, message);
    } else if (message.type === "error" && link === this.#next) {
      link.end(message.code.startsWith("bad_") ? 4400 : 4503, message.message);
    } else if ("jobId" in message && link === this.#link) {
      // The last one, not the highest: after a failover of Redis, seq may fall back, and arrival counts.
      this.#cursor = message.seq ?? this.#cursor;
      this.#listener.onEvent(message, !(message.seq <= this.#head));
    }
  }

  #onSubscribed(link, { seq, recovered }) {
    if (link === this.#next) {
      this.#link?.close();
      this.#link = link;
      this.#next = null;
      this.#reason = "";
      link.subscribedAt = performance.now();
    }
    this.#head = seq;
    if (!recovered) {
      this.#listener.onGap();
      this.#cursor = undefined; // all that is remembered, not what is newer than a cursor with a gap behind it
      link.send({ type: "unsubscribe", projectId: this.#projectId });
      this.#subscribe(link);
    }
    this.#tell();
  }

  onClose(link, code, reason) {
    if (performance.now() - link.subscribedAt > STABLE_MS) this.#failures = 0;
    if (link === this.#next) this.#next = null;
    else this.#link = null;
    if (code >= 4000 && code < 4500) {
      this.stop();
      this.#reason = reason || `The gateway closed the connection (${code})`;
    } else if (!this.#next) {
      const most = Math.min(BACKOFF_MS.most, 2 * BACKOFF_MS.least * 2 ** this.#failures++);
      this.#reason = code >= 4500 ? reason : ""; // a restart or a lost network needs no words
      this.#connectIn(between(BACKOFF_MS.least, most));
    }
    this.#tell();
  }

  #subscribe(link) {
    link.send({ type: "subscribe", projectId: this.#projectId, since: this.#cursor });
  }

  #connectIn(ms) {
    clearTimeout(this.#timer);
    this.#retryAt = Date.now() + ms;
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#next = new Link(this.#url, this);
    this.#tell();
  }

  #tell() {
    const state = this.#link ? "connected" : this.#next ? "connecting" : "disconnected";
    const isStale = (this.#link ?? this.#next)?.isStale ?? false;
    this.#listener.onStatus({ state, isStale, isOver: this.#isOver, retryAt: this.#retryAt, reason: this.#reason });
  }
}

const between = (least, most) => least + Math.random() * (most - least);
