/** What an event costs the core, by the number of sentences of its job: `npm run bench`. */

import { build } from "esbuild";

const ROUNDS = 7;
const SIZES = [0, 100, 1_000, 5_000];

const { outputFiles } = await build({ entryPoints: ["src/core.ts"], bundle: true, format: "esm", write: false });
const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`;
const { createProgressClient } = await import(url);

/** The snapshot is made when a test asks for the frame. */
let frame;
globalThis.requestAnimationFrame = (callback) => {
  frame = callback;
  return 1;
};
globalThis.cancelAnimationFrame = () => {};
const draw = () => {
  const due = frame;
  frame = undefined;
  due?.();
};

const median = (numbers) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** A page that watches one job of `sentences` sentences; `hear` is what its socket receives. */
function page(sentences, handlers = {}) {
  let socket;
  class Fake {
    constructor() {
      socket = this;
    }
    send() {}
    close() {}
  }
  const client = createProgressClient({ url: "ws://bench", webSocketImpl: Fake });
  const store = client.project("p");
  const leave = store.subscribe(() => {}, handlers);
  let seq = Date.now() * 1000;
  const hear = (message) => socket.onmessage({ data: JSON.stringify({ projectId: "p", ...message }) });
  const event = (i, progress, more) => ({
    type: "progress",
    seq: ++seq,
    jobId: "job",
    jobType: "audio",
    attempt: 0,
    ...(sentences ? { sentenceId: `sentence_${i % sentences}` } : {}),
    progress,
    message: "voice 2 of 5",
    ...more,
  });
  socket.onopen({});
  hear({ type: "subscribed", seq: 0, recovered: true });
  for (let i = 0; i < sentences; i++) hear(event(i, 0));
  draw();
  return { store, leave, hear, event, socket: () => socket };
}

/** Microseconds an event, the median of the rounds. `after` runs after each event, and counts. */
function cost(sentences, after, events) {
  const shown = page(sentences);
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const texts = Array.from({ length: events }, (_, i) =>
      JSON.stringify({ projectId: "p", ...shown.event(i, round + 1) }),
    );
    const socket = shown.socket();
    const begun = performance.now();
    for (const data of texts) {
      socket.onmessage({ data });
      after(shown);
    }
    rounds.push(((performance.now() - begun) * 1000) / events);
    draw();
  }
  shown.leave();
  return median(rounds);
}

const row = (...cells) => console.log(cells.map((cell) => String(cell).padStart(24)).join(""));
row("sentences of the job", "us an event", "with a snapshot each", "and its sentences read");
const EVENTS = Number(process.argv[2] ?? 2_000);
for (const sentences of SIZES) {
  const read = ({ store }) => {
    draw();
    return store.getSnapshot().jobs.job.sentences;
  };
  row(sentences, ...[() => {}, draw, read].map((after) => cost(sentences, after, EVENTS).toFixed(1)));
}
process.exit(0);
