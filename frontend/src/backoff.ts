/** How long to wait before the next attempt to connect. */

const LEAST_MS = 500;
const MOST_MS = 20_000;

/** A random number of milliseconds between `least` and `most`. */
export const between = (least: number, most: number): number => least + Math.random() * (most - least);

/**
 * The wait after `failures` failed attempts in a row. It is random over its whole range, at the cap too: otherwise all
 * clients of a lost server would come back at the same moment.
 */
export const backoff = (failures: number): number => between(LEAST_MS, Math.min(MOST_MS, 2 * LEAST_MS * 2 ** failures));
