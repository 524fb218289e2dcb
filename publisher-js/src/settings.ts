/** The settings of a publisher. No other module of this package reads the environment. */

import { EventError } from "./errors.js";
import { checkNamespace } from "./names.js";
import type { HttpOptions, PublisherOptions, RedisOptions } from "./types.js";

const OFF = new Set(["0", "off", "false", "no"]);
const ON = new Set(["1", "on", "true", "yes"]);

/** The value of a variable that is on or off; throws `EventError`. */
function isOn(name: string, ifEmpty: boolean): boolean {
  const text = (process.env[name] ?? "").toLowerCase();
  if (text === "") return ifEmpty;
  if (!ON.has(text) && !OFF.has(text)) throw new EventError({ [name]: `is ${JSON.stringify(text)}; use on or off` });
  return ON.has(text);
}

/** Whether nothing is sent: for tests of code that publishes. */
export const isDisabled = (options: PublisherOptions): boolean => options.disabled ?? isOn("PROGRESS_DISABLED", false);

/** Whether SIGTERM, SIGINT and an uncaught error end open jobs. */
export const endsAtSignals = (options: PublisherOptions): boolean =>
  options.endsAtSignals ?? isOn("PROGRESS_SIGTERM", true);

/** False: events are sent by a plain PUBLISH. Redis remembers none of them, and they have no seq. */
export const isReplayOn = (options: RedisOptions): boolean => options.replay ?? isOn("PROGRESS_REPLAY", true);

export const namespaceOf = (options: RedisOptions): string =>
  checkNamespace(options.namespace ?? process.env["PROGRESS_NAMESPACE"] ?? "");

/** The gateway's address without a slash at its end, and the key. Throws `EventError`; its words repeat no key. */
export function gatewayOf(options: HttpOptions): { url: string; key: string } {
  const url = options.url ?? process.env["GATEWAY_URL"] ?? "";
  const key = options.key ?? process.env["GATEWAY_KEY"] ?? "";
  if (!url) {
    throw new EventError({
      url: "is missing: give { redis } with a client of Redis, or { url, key } of a gateway (or set GATEWAY_URL and GATEWAY_KEY)",
    });
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !["http:", "https:"].includes(parsed.protocol) || parsed.username || parsed.search || parsed.hash) {
    throw new EventError({ url: "must be the address of a gateway, such as https://progress.example.com" });
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new EventError({
      key: "must be one of the gateway's GATEWAY_PUBLISH_KEYS, or a token with the claim publish",
    });
  }
  return { url: url.replace(/\/+$/, ""), key };
}
