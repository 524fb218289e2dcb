/** The options of a client, and the socket that follows from them. */

import type { Socket, SocketType } from "./link.js";
import type { GatewayError } from "./project.js";
import type { GetToken } from "./tokens.js";

export interface ClientOptions {
  /** The gateway's URL, or a function that is called for each connection. By default `/ws` on the page's own host. */
  url?: string | (() => string) | undefined;
  /**
   * Gives a token that says which projects the user may watch. It is kept for its life, and asked for again before it
   * expires, or when the gateway refuses it. `null`: nobody is signed in. `undefined`: connect without a token.
   */
  getToken?: GetToken | undefined;
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

/** Open a socket; throws if `url` does, or if there is no WebSocket class, or if that refuses the URL. */
export function openSocket({ url = defaultUrl, webSocketImpl }: ClientOptions): Socket {
  return new (webSocketImpl ?? WebSocket)(typeof url === "string" ? url : url());
}
