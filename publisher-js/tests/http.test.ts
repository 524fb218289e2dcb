/** Publishing by HTTP: through a real gateway, and past what a load balancer or a stranger answers. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { portOf, Redis, Replica } from "../../frontend/e2e/support/processes.js";
import { until } from "../../frontend/e2e/support/wait.js";
import { createPublisher, PublishError } from "../src/index.js";
import { Collected } from "./support/collected.js";
import { type Heard, Viewer } from "./support/viewer.js";

const KEY = "a-key-of-the-tests-1234";
const job = { jobId: "job_7", jobType: "audio" } as const;
const event = { ...job, type: "progress", progress: 40 } as const;
const isEnd = ({ type }: Heard): boolean => type !== "progress";

describe("through a gateway", () => {
  let redis: Redis;
  let gateway: Replica;
  let url: string;
  beforeAll(async () => {
    redis = await Redis.start();
    gateway = await Replica.start(redis, { GATEWAY_PUBLISH_KEYS: KEY });
    url = `http://127.0.0.1:${gateway.port}`;
  });
  afterAll(async () => {
    await gateway.end();
    await redis.end();
  });

  test("events are delivered, in order, with their seq", async () => {
    const publisher = createPublisher({ url: `${url}/`, key: KEY });
    const viewer = await Viewer.of(redis.port, "project:many");
    const first = publisher.broadcastToProject("many", { ...event, progress: 1 });
    const seqs = await publisher.broadcastMany([
      ["many", { ...event, progress: 2, message: "é💩" }],
      ["other", event],
      ["many", { ...event, progress: 3 }],
    ]);
    expect([await first, ...seqs].every((seq) => typeof seq === "number")).toBe(true);
    const events = await viewer.until("the last", ({ progress }) => progress === 3);
    expect(events.map(({ progress }) => progress)).toEqual([1, 2, 3]);
    viewer.end();
    await publisher.close();
  });

  test("a tracked job has one attempt and one end, and one that began again elsewhere is refused", async () => {
    const log = new Collected();
    const publisher = createPublisher({ url, key: KEY, logger: log });
    const viewer = await Viewer.of(redis.port, "project:tracked");
    await publisher.trackJob("tracked", "j", "audio", { attempt: 4 }, async (first) => {
      first.progress(40, "voice 2 of 5");
      await publisher.flush();
      expect(first.attempt).toBe(4);
      const second = publisher.trackJob("tracked", "j", "audio");
      await publisher.flush();
      expect(second.attempt).toBe(5);
      first.progress(50);
      await until("the first to hear of it", () => first.isEnded);
      expect(await second.complete({ file: "a.mp3" })).toBeGreaterThan(1e15);
    });
    const events = await viewer.until("the end", isEnd);
    expect(events.filter(isEnd)).toMatchObject([{ type: "job_complete", attempt: 5, result: { file: "a.mp3" } }]);
    expect(log.lines).toEqual([
      "warn publisher: job 'j' of project 'tracked' was begun again, or ended, elsewhere; this attempt is no longer shown",
    ]);
    viewer.end();
    await publisher.close();
  });

  test("a bad key is said once, with what to do, and breaks no job", async () => {
    const log = new Collected();
    const publisher = createPublisher({ url, key: "another-key-12345", logger: log });
    expect(await publisher.trackJob("p", "j", "audio", () => 4)).toBe(4);
    expect(await publisher.broadcastToProject("p", event)).toBeNull();
    await expect(publisher.broadcastToProject("p", event, { strict: true })).rejects.toThrow(PublishError);
    expect(log.lines).toHaveLength(1);
    expect(log.lines[0]).toMatch(/The gateway at http:.*: it answers 401 .*GATEWAY_PUBLISH_KEYS/);
    await publisher.close();
  });

  test("what a gateway remembers cannot be asked for", async () => {
    const publisher = createPublisher({ url, key: KEY });
    await expect(publisher.lastEvent("p", "j")).rejects.toThrow("give { redis }");
    await publisher.endJob("beside", "j", "audio", "Cancelled", { reason: "cancelled" });
    await publisher.close();
  });

  test("a gateway that is gone delays one event, and ends arrive when it is back", async () => {
    const log = new Collected();
    const publisher = createPublisher({ url, key: KEY, logger: log });
    const viewer = await Viewer.of(redis.port, "project:gone");
    const tracked = publisher.trackJob("gone", "j", "audio");
    await publisher.flush();
    await gateway.kill();
    expect(await tracked.complete()).toBeNull();
    expect(await publisher.broadcastToProject("gone", event)).toBeNull();
    expect(log.lines).toHaveLength(1);
    expect(log.lines[0]).toContain("ECONNREFUSED");
    await gateway.start();
    expect((await viewer.until("the end", isEnd)).at(-1)).toMatchObject({ type: "job_complete", attempt: 0 });
    viewer.end();
    await publisher.close();
  });
});

/** A server that answers as a test says. */
async function answering(
  answer: (request: IncomingMessage, body: string, response: ServerResponse) => void,
  use: (url: string) => Promise<void>,
): Promise<void> {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    answer(request, body, response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${portOf(server)}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const accept = (body: string, response: ServerResponse): void => {
  const events = JSON.parse(body) as { attempt?: unknown }[];
  response.writeHead(202).end(JSON.stringify({ seqs: events.map(() => 5), attempts: events.map(() => null) }));
};

describe("what stands before a gateway", () => {
  test("503 with Retry-After, 502 of a load balancer: again, and the event arrives", async () => {
    let count = 0;
    await answering(
      (_request, body, response) => {
        count += 1;
        if (count === 1) response.writeHead(503, { "retry-after": "0" }).end('{"code": "draining"}');
        else if (count === 2) response.writeHead(502).end("<html>");
        else accept(body, response);
      },
      async (url) => {
        const publisher = createPublisher({ url, key: KEY });
        expect(await publisher.broadcastToProject("p", event)).toBe(5);
        await publisher.close();
      },
    );
    expect(count).toBe(3);
  });

  test.each([
    [404, "<html>", "It is no gateway, or one without keys: set GATEWAY_PUBLISH_KEYS there"],
    [301, "", "It is redirected: give the final address as `url`"],
    [403, '{"code": "forbidden", "message": "No."}', "403 forbidden: No. The claim `publish` of the token"],
    [421, "", "set GATEWAY_HOSTS there"],
    [200, "<html>", "it answers 200"],
  ])("%d is not tried again, and says what to do", async (status, text, words) => {
    let count = 0;
    await answering(
      (_request, _body, response) => {
        count += 1;
        response.writeHead(status, { location: "http://127.0.0.1:1/" }).end(text);
      },
      async (url) => {
        const log = new Collected();
        const publisher = createPublisher({ url, key: KEY, logger: log });
        expect(await publisher.broadcastToProject("p", event)).toBeNull();
        expect(log.lines.join()).toContain(words);
        await publisher.close();
      },
    );
    expect(count).toBe(status === 421 ? 2 : 1); // `fetch` itself asks again after 421
  });

  test("a body that is too long for it is halved, and an event that it refuses does not stop the others", async () => {
    const sizes: number[] = [];
    await answering(
      (_request, body, response) => {
        const events = JSON.parse(body) as { progress: number }[];
        sizes.push(events.length);
        const bad = events.findIndex(({ progress }) => progress === 13);
        if (events.length > 8) response.writeHead(413).end("<html>");
        else if (bad >= 0)
          response.writeHead(422).end(
            JSON.stringify({
              code: "bad_events",
              errors: [{ index: bad, field: "progress", message: "must be lucky" }],
            }),
          );
        else accept(body, response);
      },
      async (url) => {
        const log = new Collected();
        const publisher = createPublisher({ url, key: KEY, logger: log });
        const events = Array.from(
          { length: 16 },
          (_, progress) => ["p", { ...event, jobId: `j${progress}`, progress }] as const,
        );
        const seqs = await publisher.broadcastMany(events);
        expect(seqs).toEqual(events.map(([, { progress }]) => (progress === 13 ? null : 5)));
        expect(log.lines.join()).toContain("progress: must be lucky");
        await publisher.close();
      },
    );
    expect(sizes.slice(0, 3)).toEqual([16, 8, 8]);
  });

  test("a key never stands in a log line, nor one in the address", async () => {
    expect(() => createPublisher({ url: "http://user:secret-secret@host", key: KEY })).toThrow(
      /^url: must be the address/,
    );
    expect(() => createPublisher({ url: "http://host", key: "a key with spaces" })).toThrow(/^key: must be one of/);
    expect(() => createPublisher({ url: "host", key: KEY })).toThrow("such as https://progress.example.com");
  });
});
