/** Shared by the tests: a fake clock, a page that records what it receives, and a gateway that sends anything. */

import { afterEach, beforeEach, expect, vi } from "vitest";
import type {
  ClientMessage,
  Job,
  JobCompleteMessage,
  JobEvent,
  JobFailedMessage,
  ProgressMessage,
  Snapshot,
} from "../src/core.js";
import { type ClientOptions, createProgressClient, type ProgressClient } from "../src/core.js";

export const P = "project_1";
export const Q = "project_2";
const URL_OF_GATEWAY = "ws://gateway.test/ws";

// Time

const leaves = new Set<() => void>();

/** Call at the top of a file: each test starts with its own clock, and leaves no listener on the page. */
export function withFakeTime(): void {
  beforeEach(() => {
    vi.useFakeTimers({ now: new Date("2026-01-01T12:00:00Z") });
  });
  afterEach(async () => {
    for (const leave of leaves) leave();
    leaves.clear();
    await advance(1_200);
    vi.unstubAllGlobals(); // first: a stub of `setTimeout` gives the fake one back, which would stay for all later files
    vi.useRealTimers();
  });
}

export const advance = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));

/** Everything sent arrives, and the page is drawn. */
export const frame = (): Promise<void> => advance(20);

/** Every random choice at the low end (0), the high end (0.999) or between. */
export const setRandom = (value: number): void => void vi.spyOn(Math, "random").mockReturnValue(value);

/** Random numbers that are the same in each run. */
export function pseudoRandom(seed = 1): () => number {
  let state = seed * 7_919;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

// The page

export interface Watcher {
  readonly events: JobEvent[];
  readonly ends: { job: Job; event: JobEvent; what: "job" | "sentence" }[];
  /** The snapshot at each change. */
  readonly snapshots: Snapshot[];
  /** The present snapshot. */
  readonly now: Snapshot;
  job(jobId: string): Job;
  leave(): void;
}

/** A component that watches a project. */
export function watch(client: ProgressClient, projectId = P, isPassive = false): Watcher {
  const store = client.project(projectId);
  const [events, ends, snapshots]: [Watcher["events"], Watcher["ends"], Watcher["snapshots"]] = [[], [], []];
  const leave = store.subscribe(() => snapshots.push(store.getSnapshot()), {
    isPassive,
    onEvent: (event) => events.push(event),
    onTerminal: (job, event, what) => ends.push({ job, event, what }),
  });
  leaves.add(leave);
  return {
    events,
    ends,
    snapshots,
    leave,
    get now() {
      return store.getSnapshot();
    },
    job(jobId) {
      const job = store.getSnapshot().jobs[jobId];
      if (!job) throw new Error(`No job ${jobId}`);
      return job;
    },
  };
}

/** Dispatch an event of the page. `visibilitychange` belongs to the document, and bubbles. */
export function onPage(type: string): void {
  (type === "visibilitychange" ? document : window).dispatchEvent(new Event(type, { bubbles: true }));
}

export const setHidden = (isHidden: boolean): void =>
  void vi.spyOn(document, "hidden", "get").mockReturnValue(isHidden);

export const setOnline = (isOnline: boolean): void =>
  void vi.spyOn(navigator, "onLine", "get").mockReturnValue(isOnline);

// What the gateway says

type Fields<T> = Partial<Omit<T, "type" | "progress">>;

export const progress = (jobId: string, percent: number, more: Fields<ProgressMessage> = {}): ProgressMessage => ({
  type: "progress",
  projectId: P,
  jobId,
  jobType: "audio",
  progress: percent,
  ...more,
});

export const complete = (jobId: string, more: Fields<JobCompleteMessage> = {}): JobCompleteMessage => ({
  type: "job_complete",
  projectId: P,
  jobId,
  jobType: "audio",
  result: { file: `${jobId}.mp3` },
  ...more,
});

export const failed = (jobId: string, more: Fields<JobFailedMessage> = {}): JobFailedMessage => ({
  type: "job_failed",
  projectId: P,
  jobId,
  jobType: "audio",
  error: `${jobId} broke`,
  ...more,
});

// A gateway that a test controls by hand, for cases in which the package's own fake behaves too well

/** Like a browser's WebSocket, but messages after `close()` still arrive, as with `ws` in Node. */
export class ScriptedSocket {
  readonly url: string;
  readonly madeAt = Date.now();
  readonly sent: ClientMessage[] = [];
  /** The page closed it. */
  isLeft = false;
  /** It answers each `ping`, in order: otherwise a test says `pong` itself, or has the link time out. */
  isAnswering = false;
  readyState = 0;
  onopen: ((event: object) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: unknown; reason: string }) => void) | null = null;
  onerror: ((event: object) => void) | null = null;

  constructor(url: string) {
    this.url = url;
  }

  send(text: string): void {
    if (this.readyState === 0) throw new DOMException("Still in CONNECTING state", "InvalidStateError");
    if (this.readyState !== 1) return;
    const message = JSON.parse(text) as ClientMessage;
    this.sent.push(message);
    if (this.isAnswering && message.type === "ping") queueMicrotask(() => this.say({ type: "pong" }));
  }

  close(): void {
    this.isLeft = true;
    if (this.readyState < 2) this.readyState = 2;
  }

  accept(): void {
    this.readyState = 1;
    this.onopen?.({});
    this.say({ type: "connected", clientId: "client_1" });
  }

  /** An object is sent as JSON; texts and binary data as they stand. */
  say(...messages: unknown[]): void {
    for (const message of messages) {
      const isRaw = typeof message !== "object" || message instanceof ArrayBuffer || message instanceof Blob;
      this.onmessage?.({ data: isRaw ? message : JSON.stringify(message) });
    }
  }

  subscribed(seq = 0, recovered = true, projectId = P): void {
    this.say({ type: "subscribed", projectId, seq, recovered });
  }

  end(code: unknown = 1006, reason = ""): void {
    this.readyState = 3;
    this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  /** The number of pings that it received. */
  get pings(): number {
    return this.sent.filter(({ type }) => type === "ping").length;
  }

  /** Its subscribes of one project. */
  asked(projectId = P): ClientMessage[] {
    return this.sent.filter((message) => message.type === "subscribe" && message.projectId === projectId);
  }
}

interface Scripted {
  readonly client: ProgressClient;
  /** All sockets so far, the oldest first. */
  readonly sockets: ScriptedSocket[];
  readonly last: ScriptedSocket;
}

/** A client whose sockets do nothing by themselves; `onSocket` is called with each one a moment after it was made. */
export function scripted(options: ClientOptions = {}, onSocket: (socket: ScriptedSocket) => void = () => {}): Scripted {
  const sockets: ScriptedSocket[] = [];
  class Bound extends ScriptedSocket {
    constructor(url: string) {
      super(url);
      sockets.push(this);
      queueMicrotask(() => onSocket(this));
    }
  }
  const webSocketImpl = Bound as unknown as typeof WebSocket;
  return {
    client: createProgressClient({ url: URL_OF_GATEWAY, webSocketImpl, ...options }),
    sockets,
    get last() {
      return sockets.at(-1)!;
    },
  };
}

export interface Page extends Scripted, Pick<Watcher, "events" | "ends" | "snapshots" | "job"> {
  readonly watcher: Watcher;
  readonly now: Snapshot;
  /** The gateway sends messages on the newest socket, and the page is drawn. */
  hear(...messages: unknown[]): Promise<void>;
  /** The gateway accepts the newest socket and its subscribe, and the page is drawn. */
  join(seq?: number, recovered?: boolean): Promise<void>;
  /** The replay is over, although its last event does not come: the gateway answers the `ping`. */
  endReplay(): Promise<void>;
  /** The connection is lost, and the next one asked for; nobody answers it yet. */
  drop(): Promise<void>;
}

/** A page that watches `P`, and is connected. */
export async function page(seq = 0, options: ClientOptions = {}): Promise<Page> {
  const gateway = scripted(options);
  const watcher = watch(gateway.client);
  const made: Page = {
    ...gateway,
    ...watcher,
    watcher,
    get last() {
      return gateway.last;
    },
    get now() {
      return watcher.now;
    },
    async hear(...messages) {
      gateway.last.say(...messages);
      await frame();
    },
    async join(head = 0, recovered = true) {
      gateway.last.accept();
      gateway.last.subscribed(head, recovered);
      await frame();
    },
    async endReplay() {
      await advance(100);
      await made.hear({ type: "pong" });
    },
    async drop() {
      const before = gateway.sockets.length;
      gateway.last.end(1006);
      for (let waited = 0; gateway.sockets.length === before && waited < 25_000; waited += 100) await advance(100);
    },
  };
  await made.join(seq);
  return made;
}

/** A page that knows job `a` up to seq 9, whose replica drains, and whose next connection has opened. */
export async function moving(): Promise<Page & { old: ScriptedSocket; next: ScriptedSocket }> {
  const shown = await page();
  const old = shown.last;
  await shown.hear(progress("a", 10, { seq: 9 }), { type: "going_away", reconnectIn: [0, 0] });
  const next = shown.last;
  next.accept();
  return Object.assign(shown, { old, next });
}

/** Once connected, the page always showed `connected` and never `isStale`. */
export const expectSmooth = ({ snapshots }: Pick<Watcher, "snapshots">): void => {
  const shown = snapshots.slice(snapshots.findIndex(({ status }) => status === "connected"));
  expect(shown.filter(({ status, isStale }) => status !== "connected" || isStale)).toEqual([]);
};
