/** The errors that authors meet. */

/**
 * An event, id or option that does not fit, found before anything is sent: `progress: must be a number from 0 to 100,
 * got string`. `errors` has a sentence for each field; the key "" stands for the event itself. `index` is the event's
 * place in a list, from 0.
 */
export class EventError extends Error {
  override readonly name = "EventError";
  readonly errors: Readonly<Record<string, string>>;
  readonly index: number | undefined;

  constructor(errors: Readonly<Record<string, string>>, index?: number) {
    const event = index === undefined ? "" : `events[${index}]`;
    super(
      Object.entries(errors)
        .map(([field, sentence]) => `${[event, field].filter(Boolean).join(".") || "event"}: ${sentence}`)
        .join("; "),
    );
    this.errors = errors;
    this.index = index;
  }
}

/** An event that could not be sent, with `strict`, or a question that was not answered. `cause` is the transport's error. */
export class PublishError extends Error {
  override readonly name = "PublishError";
}
