/** Waits for conditions, with a deadline and an error that names the condition. */

import { setTimeout as sleep } from "node:timers/promises";

/** In ms; far more than any single step takes on a slow machine. */
const PATIENCE = 45_000;
const POLL_MS = 40;

/** Poll until the condition returns something truthy, and return that. `explain` adds to the error. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  { within = PATIENCE, explain }: { within?: number; explain?: () => unknown } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + within;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) break;
    await sleep(POLL_MS);
  }
  const details = explain ? `; ${JSON.stringify(await explain())}` : "";
  throw new Error(`waited ${within / 1000} s for: ${what}${details}`);
}

/** Wait for a promise; throws an error with a name when the deadline passes. */
export async function inTime<T>(what: string, step: Promise<T>, within = PATIENCE): Promise<T> {
  const late = new AbortController();
  try {
    return await Promise.race([
      step,
      sleep(within, undefined, { signal: late.signal }).then(() => {
        throw new Error(`waited ${within / 1000} s for: ${what}`);
      }),
    ]);
  } finally {
    late.abort();
  }
}
