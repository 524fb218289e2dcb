const LEAST_MS = 500;
const MOST_MS = 20_000;

/** A random number of milliseconds between two. */
export const between = (least: number, most: number): number => least + Math.random() * (most - least);

/** The wait before the next try after `failures` in a row, random over its whole range also at the cap: else those who
 * lost the same server come back together. */
export const backoff = (failures: number): number => between(LEAST_MS, Math.min(MOST_MS, 2 * LEAST_MS * 2 ** failures));
