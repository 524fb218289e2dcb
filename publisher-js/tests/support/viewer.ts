/** Hears a project's events as a gateway does: from its Redis channel. */

import { Redis } from "ioredis";
import { until } from "../../../frontend/e2e/support/wait.js";

export interface Heard {
  seq?: number;
  type: string;
  jobId: string;
  jobType?: string;
  progress?: number;
  message?: string;
  attempt?: number;
  nextWithin?: number;
  sentenceId?: string;
  error?: string;
  reason?: string;
  data?: unknown;
  result?: unknown;
}

export class Viewer {
  readonly events: Heard[] = [];
  readonly #client: Redis;

  private constructor(client: Redis) {
    this.#client = client;
  }

  static async of(port: number, channel: string): Promise<Viewer> {
    const client = new Redis({ port, host: "127.0.0.1" });
    const viewer = new Viewer(client);
    client.on("message", (_, text) => viewer.events.push(JSON.parse(text)));
    await client.subscribe(channel);
    return viewer;
  }

  /** Wait until an event fits; returns all so far. */
  async until(what: string, fits: (event: Heard) => boolean): Promise<Heard[]> {
    await until(what, () => this.events.some(fits), { explain: () => this.events });
    return this.events;
  }

  end(): void {
    this.#client.disconnect();
  }
}
