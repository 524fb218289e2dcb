/** Tells what became of a job from beside it, and again while Redis or the gateway is away. */

import { describe } from "../failure.js";
import type { Logger } from "../types.js";

const TRY_SECONDS = 60;
const PAUSE_MS = 1_000;

/** Run `tell` until it succeeds, for a minute; then it is given up, and logged. Never rejects. */
export async function report(jobId: string, tell: () => Promise<unknown>, logger: Logger): Promise<void> {
  const until = Date.now() + TRY_SECONDS * 1_000;
  for (;;) {
    try {
      await tell();
      return;
    } catch (error) {
      const isBad = error instanceof Error && error.name === "EventError"; // it would be the same again
      if (isBad || Date.now() >= until) {
        logger.warn(`What became of job ${jobId} was not reported: ${describe(error)}`);
        return;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref());
  }
}
