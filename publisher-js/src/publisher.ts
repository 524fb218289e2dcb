/** The publisher that job authors make. */

import type { Job, Publisher, PublisherOptions } from "./types.js";

/** A publisher through Redis (`{ redis }`), or by HTTP (`{ url, key }`). Throws `EventError` for a bad option. */
export function createPublisher(_options?: PublisherOptions): Publisher {
  throw new Error("not built yet");
}

/** The job of the `trackJob` whose work this code runs in; throws outside of one. */
export function currentJob(): Job {
  throw new Error("not built yet");
}
