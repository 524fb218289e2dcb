/** The token of the page: from a link (`#token=...`) or from the form, kept for this tab, and never in the address bar. */

import type { ClientOptions, GatewayError, ProgressClient } from "../src/core.js";
import { find, setText } from "./dom.js";
import { isAboutToken, reason } from "./words.js";

const KEY = "progress-gateway-token";

/** Move the token of `#token=...` to the tab's own storage, if there is one. A query would stand in logs; a fragment is never sent. */
function takeFromAddress(): boolean {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return false;
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

/** Asks for a token when the gateway wants one. Lives as long as the page. */
export class SignIn {
  /** What the client needs for it. */
  readonly options: ClientOptions = {
    getToken: () => sessionStorage.getItem(KEY) ?? undefined,
    onError: (error, projectId) => this.#onError(error, projectId),
  };
  #form = find<HTMLFormElement>(document, "#sign-in");
  #input = find<HTMLInputElement>(this.#form, "input");
  #why = find(this.#form, ".why");

  constructor() {
    takeFromAddress();
  }

  /** Listen to the form and to the client, which has `options`. */
  start(client: ProgressClient): void {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, this.#input.value.trim());
      this.#input.value = "";
      this.#retry(client);
    });
    addEventListener("hashchange", () => {
      if (takeFromAddress()) this.#retry(client);
    });
  }

  #retry(client: ProgressClient): void {
    this.#form.hidden = true;
    client.reconnect();
  }

  #onError(error: GatewayError, projectId: string | undefined): void {
    if (projectId !== undefined || !isAboutToken(error)) return;
    setText(this.#why, reason(error));
    this.#form.hidden = false;
  }
}
