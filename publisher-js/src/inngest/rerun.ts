/** Tells whether a function is repeating what earlier requests did. */

/**
 * Lives as long as one request.
 *
 * Inngest calls a function again from the top for each of its steps. It repeats until the results of all finished steps
 * were given to it, or until the code of a step begins. The SDK gives results in the order in which the steps finished,
 * so what follows the last one is new, in parallel branches too. The second case is for a request that asks for one
 * step of a parallel group: only the code of that step is new.
 */
export class Rerun {
  #isTargeted: boolean; // only the code of a step is new
  #unread: number;
  #stepsAtWork = 0;

  constructor(stepsDone: number, isTargeted: boolean) {
    this.#unread = stepsDone;
    this.#isTargeted = isTargeted;
  }

  /** Whether calls now repeat earlier ones, and nothing is sent. */
  get isSilent(): boolean {
    return this.#stepsAtWork === 0 && (this.#isTargeted || this.#unread > 0);
  }

  /** A step is tried again: what comes before it is a repetition too, and what comes after it is for a later request. */
  onStepRetry(): void {
    this.#isTargeted = true;
  }

  /** The result of a finished step was given to the function. */
  onRead(): void {
    this.#unread -= 1;
  }

  /** Run the code of a step. */
  async inStep<T>(work: () => T | PromiseLike<T>): Promise<T> {
    this.#stepsAtWork += 1;
    try {
      return await work();
    } finally {
      this.#stepsAtWork -= 1;
      this.#unread = 0;
    }
  }
}
