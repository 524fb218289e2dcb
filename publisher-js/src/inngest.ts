/** Inngest. */
export {};
