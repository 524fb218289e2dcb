/** The clients of a page: one for each URL, so that all components with this URL share a connection. */

import { createProgressClient, type ProgressClient } from "./client.js";
import type { ClientOptions } from "./options.js";

interface SharedOptions extends ClientOptions {
  /** A provider has a `getToken` when it is first rendered. */
  hasToken?: boolean;
}

/** Held weakly: a client that nothing watches or renders any more is let go. */
interface Shared {
  readonly options: SharedOptions;
  readonly client: WeakRef<ProgressClient>;
}

let shared: Shared[] = [];

/** Functions may be new in each render, so the first `getToken` and `onError` count for all. */
const isSame = (a: SharedOptions, b: SharedOptions): boolean =>
  a.url === b.url &&
  a.webSocketImpl === b.webSocketImpl &&
  a.historyLimit === b.historyLimit &&
  a.jobLimit === b.jobLimit &&
  !a.hasToken === !b.hasToken;

/** The client of this URL. A `url` that is a function gets a client of its own. */
export function clientFor(options: SharedOptions): ProgressClient {
  if (typeof options.url === "function") return createProgressClient(options);
  shared = shared.filter(({ client }) => client.deref());
  const known = shared.find((other) => isSame(other.options, options))?.client.deref();
  if (known) return known;
  const client = createProgressClient(options);
  shared.push({ options, client: new WeakRef(client) });
  return client;
}
