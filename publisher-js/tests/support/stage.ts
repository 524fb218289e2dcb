/** A Redis, a publisher and those who watch its projects: what the tests of Inngest and BullMQ need. */

import { Redis as Client } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { Redis } from "../../../frontend/e2e/support/processes.js";
import { until } from "../../../frontend/e2e/support/wait.js";
import { createPublisher, type Publisher } from "../../src/index.js";
import { Collected } from "./collected.js";
import { type Heard, Viewer } from "./viewer.js";

/** An event in short: its attempt, its percents or type, its text; and its reason, if it has one. */
export type Line = (string | number | null)[];

export interface Stage {
  redis: Redis;
  client: Client;
  publisher: Publisher;
  log: Collected;
}

/** Set up once for the tests of a file. */
export function stage(): Stage {
  const made = {} as Stage;
  beforeAll(async () => {
    made.redis = await Redis.start();
    made.client = new Client({ port: made.redis.port, host: "127.0.0.1", maxRetriesPerRequest: null });
    made.log = new Collected();
    made.publisher = createPublisher({ redis: made.client, logger: made.log });
  });
  afterAll(async () => {
    await made.publisher.close();
    made.client.disconnect();
    await made.redis.end();
  });
  return made;
}

let projects = 0;

/** Do something of which viewers of a new project hear. */
export async function watching<T>({ redis, client }: Stage, watch: (watched: Watched) => Promise<T>): Promise<T> {
  const project = `project_${++projects}`;
  const viewer = await Viewer.of(redis.port, `project:${project}`);
  try {
    return await watch(new Watched(project, viewer, client));
  } finally {
    viewer.end();
  }
}

export class Watched {
  readonly project: string;
  readonly #viewer: Viewer;
  readonly #client: Client;
  #marks = 0;

  constructor(project: string, viewer: Viewer, client: Client) {
    this.project = project;
    this.#viewer = viewer;
    this.#client = client;
  }

  /** All events that were published before now. */
  readonly events = async (): Promise<Heard[]> => {
    const jobId = `mark ${++this.#marks}`;
    await this.#client.publish(`project:${this.project}`, JSON.stringify({ type: "mark", jobId }));
    await until("the mark is heard", async () => this.#viewer.events.some((event) => event.jobId === jobId));
    return this.#viewer.events.filter(({ type }) => type !== "mark");
  };

  async story(): Promise<Line[]> {
    return (await this.events()).map(lineOf);
  }

  /** Wait until an event fits; returns all so far. */
  async until(what: string, fits: (event: Heard) => boolean): Promise<Heard[]> {
    await this.#viewer.until(what, fits);
    return this.#viewer.events.filter(({ type }) => type !== "mark");
  }
}

export function lineOf({ attempt, progress, type, message, error, reason }: Heard): Line {
  const line = [attempt ?? null, progress ?? type, message ?? error ?? null];
  return reason === undefined ? line : [...line, reason];
}
