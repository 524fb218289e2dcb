// `node bench/dashboard.mjs [STATIC_FOLDER]`: frames a second of the dashboard, and the delay from an event to its bar,
// in a real Chromium. A small WebSocket server plays the gateway, so that only the page is measured. With the folder of
// another build (index.html, dashboard.css, dashboard.js) the two can be compared in one session.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { WebSocketServer } from "ws";

const STATIC = process.argv[2] ?? fileURLToPath(new URL("../../gateway/static", import.meta.url));
const EVENTS_A_SECOND = 50;
const SECONDS = Number(process.env.SECONDS ?? 15);
const WATCHED_EVERY = 10; // each tenth event is of the first part, whose bar the page watches

const now = () => performance.timeOrigin + performance.now();
let seq = Math.floor(now() * 1000);

/** A project in which `parts` bars move in turn. */
const SETTINGS = [
  ["1 job x 5,000 sentences", 5_000, (index) => ({ jobId: "book", sentenceId: `s${index + 1}` })],
  ["1,000 jobs", 1_000, (index) => ({ jobId: `job_${index + 1}` })],
];

async function measure(browser, parts, fieldsOf) {
  const event = (index, progress) =>
    JSON.stringify({
      type: "progress",
      projectId: "p",
      seq: ++seq,
      ...fieldsOf(index),
      jobType: "audio",
      progress,
      message: `voice ${index + 1}`,
    });
  const replay = Array.from({ length: parts }, (_, index) => event(index, 0));
  const sent = new Map(); // when the watched bar was given each value

  const files = { "/": "index.html", "/static/dashboard.css": "dashboard.css", "/static/dashboard.js": "dashboard.js" };
  const types = { html: "text/html", css: "text/css", js: "text/javascript" };
  const server = createServer(async (request, response) => {
    const file = files[new URL(request.url, "http://x").pathname];
    if (!file) return response.writeHead(404).end();
    response.setHeader("content-type", types[file.split(".").pop()]);
    response.end(await readFile(join(STATIC, file)));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const sockets = new WebSocketServer({ server });
  let socket;
  sockets.on("connection", (opened) => {
    socket = opened;
    socket.send('{"type":"connected","clientId":"c"}');
    socket.on("message", (text) => {
      const message = JSON.parse(text);
      if (message.type === "ping") socket.send('{"type":"pong"}');
      if (message.type !== "subscribe") return;
      socket.send(JSON.stringify({ type: "subscribed", projectId: "p", seq, recovered: true }));
      for (const text of replay) socket.send(text);
    });
  });

  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const metrics = async () =>
    Object.fromEntries((await cdp.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
  const isOfSentences = "sentenceId" in fieldsOf(0);
  const bar = isOfSentences ? ".sentences li .fill" : ".running .card > .bar > .fill";
  await page.addInitScript((bar) => {
    const observer = new MutationObserver(() => {
      if (!document.querySelector(bar)) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => (globalThis.firstBar = performance.now())));
    });
    observer.observe(document, { childList: true, subtree: true });
  }, bar);
  await page.goto(`http://127.0.0.1:${server.address().port}/?project=p`);
  while (!(await page.evaluate(() => globalThis.firstBar))) await sleep(100);
  const filled = await page.evaluate(() => globalThis.firstBar);
  await page.evaluate((bar) => {
    const probe = { frames: 0, worst: 0, seen: [] };
    globalThis.probe = probe;
    let last = performance.now();
    let value = "0";
    const onFrame = (time) => {
      probe.frames++;
      probe.worst = Math.max(probe.worst, time - last);
      last = time;
      const shown = document.querySelector(bar)?.style.getPropertyValue("--percent");
      if (shown !== value) {
        value = shown;
        probe.seen.push([value, performance.timeOrigin + performance.now()]);
      }
      requestAnimationFrame(onFrame);
    };
    requestAnimationFrame(onFrame);
  }, bar);
  await sleep(1_000);
  const before = await metrics();
  await page.evaluate(() => Object.assign(globalThis.probe, { frames: 0, worst: 0 }));
  let count = 0;
  let index = 0;
  const began = now();
  const timer = setInterval(() => {
    for (; count < ((now() - began) / 1000) * EVENTS_A_SECOND; count++) {
      if (count % WATCHED_EVERY === 0) {
        const progress = (count / WATCHED_EVERY + 1) / 4;
        sent.set(String(progress), now());
        socket.send(event(0, progress));
      } else {
        index = (index % (parts - 1)) + 1;
        socket.send(event(index, 50));
      }
    }
  }, 5);
  await sleep(SECONDS * 1000);
  clearInterval(timer);
  const after = await metrics();
  const { frames, worst } = await page.evaluate(() => ({ ...globalThis.probe, seen: [] }));
  const seconds = (now() - began) / 1000;
  await sleep(1_000); // for the last events
  const probe = await page.evaluate(() => globalThis.probe);
  const delays = probe.seen.filter(([value]) => sent.has(value)).map(([value, at]) => at - sent.get(value));
  const seen = new Set(probe.seen.map(([value]) => value));
  const lost = [...sent].filter(([value]) => !seen.has(value));
  if (lost.length) delays.push(now() - lost[0][1]); // still not drawn
  delays.sort((a, b) => a - b);
  const used = (name) => Math.round(((after[name] - before[name]) / SECONDS) * 1000);
  await page.close();
  sockets.close();
  for (const client of sockets.clients) client.terminate();
  server.close();
  return {
    "first bar, ms": Math.round(filled),
    "frames/s": Number((frames / seconds).toFixed(1)),
    "longest frame, ms": Math.round(worst),
    "delay p50, ms": Math.round(delays[Math.floor(delays.length / 2)] ?? NaN),
    "delay max, ms": Math.round(delays.at(-1) ?? NaN),
    drawn: `${sent.size - lost.length} of ${sent.size}`,
    "ms a second: script": used("ScriptDuration"),
    style: used("RecalcStyleDuration"),
    layout: used("LayoutDuration"),
    all: used("TaskDuration"),
  };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  const rows = {};
  for (const [name, parts, fieldsOf] of SETTINGS) rows[name] = await measure(browser, parts, fieldsOf);
  console.table(rows);
  for (const [name, row] of Object.entries(rows)) console.log(name, JSON.stringify(row));
} finally {
  await browser.close();
}
