/** How long to wait before the next attempt. */

const LEAST_MS = 500;
const MOST_MS = 20_000;
const MOST_REFUSED_MS = 60_000;
const MOST_TIMER_MS = 2 ** 31 - 1; // a timer of more would fire at once

/** A random number of milliseconds between `least` and `most`. */
export const between = (least: number, most: number): number => least + Math.random() * (most - least);

/**
 * The wait after `failures` failed attempts in a row. It is random over its whole range, at the cap too: otherwise all
 * clients of a lost server would come back at the same moment.
 */
export const backoff = (failures: number): number => between(LEAST_MS, Math.min(MOST_MS, 2 * LEAST_MS * 2 ** failures));

/** The wait after a project was refused so many times in a row: 1 to 3 s after the first, doubling to 20 to 60 s. */
export const refusalBackoff = (refusals: number): number =>
  between(1 / 3, 1) * Math.min(MOST_REFUSED_MS, 1_500 * 2 ** refusals);

/** Call `step` in `ms`, however much that is. */
export const later = (ms: number, step: () => void): ReturnType<typeof setTimeout> =>
  setTimeout(step, Math.min(ms, MOST_TIMER_MS));
