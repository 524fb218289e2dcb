/** The options of a client, and the socket that follows from them. */

import type { Socket, SocketType } from "./link.js";
import type { GatewayError } from "./project.js";

export interface ClientOptions {
  /** The gateway's URL, or a function that is called for each connection. By default `/ws` on the page's own host. */
  url?: string | (() => string) | undefined;
  /** Called for each connection. The token goes into the URL as `?token=`, for a proxy; the gateway ignores it. */
  getToken?: (() => string | undefined | Promise<string | undefined>) | undefined;
  /** Called once for each new error of the connection, or of the project that is named. */
  onError?: ((error: GatewayError, projectId?: string) => void) | undefined;
  /** How many of the last events a snapshot holds; 100 by default, at least 1. */
  historyLimit?: number | undefined;
  /** How many jobs of a project are kept; 1,000 by default, which is what the gateway keeps. */
  jobLimit?: number | undefined;
  /** The WebSocket class; by default the global one. Pass `ws` in Node, a fake in tests. */
  webSocketImpl?: SocketType | undefined;
}

const defaultUrl = (): string => `${location.origin.replace("http", "ws")}/ws`; // "https" becomes "wss"

const withToken = (url: string, token: string): string =>
  `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;

/** Open a socket; throws if `url` does, or if there is no WebSocket class, or if that refuses the URL. */
export function openSocket(options: ClientOptions, token: string | undefined): Socket {
  const { url = defaultUrl, webSocketImpl } = options;
  const base = typeof url === "string" ? url : url();
  return new (webSocketImpl ?? WebSocket)(token === undefined ? base : withToken(base, token));
}
