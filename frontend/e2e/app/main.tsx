/** Shows the test page. Its address has the props of `App` (`?props=`), and `&deaf` for a client that never wakes. */

import { StrictMode } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { App, type AppProps } from "./App.js";

declare global {
  /** Show the page with some props changed. */
  var show: (changed: AppProps) => void;
}

/** A control: the same client without its wake; it gets no events of the page, and no clock. */
function makeDeaf(): void {
  const deafTo = ["online", "offline", "pageshow", "visibilitychange"];
  const listen = window.addEventListener.bind(window) as (...words: unknown[]) => void;
  window.addEventListener = (type: string, ...others: unknown[]): void => {
    if (!deafTo.includes(type)) listen(type, ...others);
  };
  // Nothing else on this page uses intervals.
  window.setInterval = (() => 0) as unknown as typeof window.setInterval;
}

const query = new URLSearchParams(location.search);
if (query.has("deaf")) makeDeaf();

let props = JSON.parse(query.get("props") ?? "{}") as AppProps;
const tree = () => (
  <StrictMode>
    <App {...props} />
  </StrictMode>
);
const element = document.getElementById("root") as HTMLElement;
let root: ReturnType<typeof createRoot>;
if (element.hasChildNodes()) {
  root = hydrateRoot(element, tree());
} else {
  root = createRoot(element);
  root.render(tree());
}

globalThis.show = (changed) => {
  props = { ...props, ...changed };
  root.render(tree());
};
