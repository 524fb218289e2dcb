/** Finds the installed Chromium, starts it, and connects so that tabs can really be hidden and frozen. */

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { type Ended, freePort } from "./processes.js";

const PATHS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  ...(process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "google-chrome")),
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function findChromium(): string {
  const named = process.env.CHROMIUM;
  const found = named ? [named].find(existsSync) : PATHS.find(existsSync);
  if (found) return found;
  throw new Error(
    named
      ? `CHROMIUM names ${named}, which does not exist`
      : "These tests need Chromium or Chrome: `apt-get install chromium` on Debian and Ubuntu, `brew install --cask " +
          "google-chrome` on macOS, or name another one in CHROMIUM",
  );
}

export interface Chromium extends Ended {
  readonly browser: Browser;
}

/**
 * Playwright makes every tab believe that it is in front, except in the default context of a browser that it did not
 * start. So the browser is started first, and Playwright then connects to it.
 */
export async function startChromium(): Promise<Chromium> {
  const port = await freePort();
  const args = [...FLAGS, `--remote-debugging-port=${port}`];
  const started = await chromium.launch({ executablePath: findChromium(), args });
  const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
  return {
    browser,
    end: async () => {
      await browser.close();
      await started.close();
    },
  };
}
