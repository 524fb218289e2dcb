/** The clients of a page: one for each URL, so that all components with this URL share a connection. */

import { createProgressClient, type ProgressClient } from "./client.js";
import type { ClientOptions } from "./options.js";

interface SharedOptions extends ClientOptions {
  /** A provider has a `getToken` when it is first rendered. */
  hasToken?: true | undefined;
}

/** Held weakly: a client that nothing watches or renders any more is let go. */
const shared = new Map<SharedOptions, WeakRef<ProgressClient>>();

/** The client of this URL, with the options that were given first. A `url` that is a function gets one of its own. */
export function clientFor(options: SharedOptions): ProgressClient {
  const made = createProgressClient(options); // connects only if it is used
  const { url, webSocketImpl, hasToken } = options;
  if (typeof url === "function") return made;
  for (const [other, ref] of shared) {
    const client = ref.deref();
    const isSame = other.url === url && other.webSocketImpl === webSocketImpl && other.hasToken === hasToken;
    if (client && isSame) return client;
    if (!client) shared.delete(other);
  }
  shared.set(options, new WeakRef(made));
  return made;
}
