/** Waiting: always for a condition, never for longer than a deadline, and with a name in what fails. */

import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds: far above what any single step takes on a slow machine. */
export const PATIENCE = 20_000;
const POLL_MS = 40;

/** Polls until the condition gives something true, and returns it; `explain` is asked when it never does. */
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

/** A step that ends by itself, or fails with a name. */
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
