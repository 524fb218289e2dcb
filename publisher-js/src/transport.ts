/** How events leave the process: what the publisher and its sender ask of Redis or of a gateway. */

import { type Circuit, Patience, pause, TransportError } from "./circuit.js";
import { PublishError } from "./errors.js";
import type { Log } from "./log.js";
import { BATCH, NOT_SENT, type Publication, type Sent } from "./publication.js";

/** What became of a batch. */
export interface Sending {
  /** In order; no seq for one that was refused or not sent, or with replay off. */
  readonly sent: readonly Sent[];
  /** Those that were given up. Nobody refused them, and they may be taken another time. */
  readonly givenUp: ReadonlySet<Publication>;
}

export interface Transport {
  readonly namespace: string;
  /** Whether Redis numbers attempts. */
  readonly replay: boolean;
  /** What is sent one batch after the other, so that no event overtakes another one of its job. */
  laneOf(projectId: string): string;
  /** Whether it is known that the events of a project would not be taken now. */
  isAway(projectId: string): boolean;
  /** Send events, in order; tried for 5 seconds. Rejects with `PublishError` only with `strict`. */
  send(publications: readonly Publication[], strict?: boolean): Promise<Sending>;
  /** The last event of a part as JSON, or null. Asks once; rejects with `PublishError`. */
  remembered(projectId: string, jobId: string, sentenceId: string | undefined): Promise<string | null>;
  /** The last events of all parts of a project, by field. Asks once; rejects with `PublishError`. */
  allRemembered(projectId: string): Promise<ReadonlyMap<string, string>>;
  close(): void;
}

/** What a try brought for each event: what became of it, or why it was not taken. */
export type Outcome = Sent | TransportError;

/** One server, or a part of it, that answers or does not. */
export interface Server {
  readonly circuit: Circuit;
  /** For the log: `Redis`, or a gateway with its address. */
  readonly name: string;
  /** Send a batch once. An error instead of outcomes: nobody answered. */
  try(batch: readonly Publication[], leftMs: number): Promise<readonly Outcome[]>;
  /** Ask whether a batch would be taken now; rejects with what sending would. */
  probe(publication: Publication): Promise<unknown>;
  /** An error in words, with what to do. */
  inWords(error: TransportError): string;
}

/**
 * Send events to one server, batch by batch, again after an error, and give up in the end.
 *
 * An event that was taken is not sent again, unless an earlier event of the same job was not taken: viewers see the event
 * that arrives last, and an attempt that begins late would drop it. An event that is refused does not stop the others.
 */
export async function sendTo(
  server: Server,
  publications: readonly Publication[],
  log: Log,
  strict: boolean,
): Promise<Sending> {
  const sent = new Map<Publication, Sent>();
  const givenUp = new Set<Publication>();
  let waiting = publications;
  let patience = new Patience(server.circuit);
  while (waiting.length > 0) {
    const batch = waiting.slice(0, BATCH);
    const { again, error } = await tryOnce(server, batch, patience, strict, sent, log);
    waiting = [...again, ...waiting.slice(BATCH)];
    if (!error) {
      patience = new Patience(server.circuit); // it answered, so the next batch has the whole time again
      continue;
    }
    const delay = patience.delayAfter(error);
    if (delay !== undefined) {
      await pause(delay);
      continue;
    }
    const first = again[0] as Publication;
    if (error.isPassing && !server.circuit.isOpen) {
      server.circuit.open(
        () => server.probe(first),
        () => log.answersAgain(server.name),
      );
    }
    log.unsent(first, waiting.length, server.name, server.inWords(error), patience.seconds);
    for (const publication of waiting) givenUp.add(publication);
    waiting = [];
    if (strict) throw new PublishError(`${server.name}: ${server.inWords(error)}`, { cause: error.cause ?? error });
  }
  return { sent: publications.map((one) => sent.get(one) ?? NOT_SENT), givenUp };
}

interface Tried {
  readonly again: readonly Publication[];
  /** The first error that another try may mend. */
  readonly error?: TransportError | undefined;
}

async function tryOnce(
  server: Server,
  batch: readonly Publication[],
  patience: Patience,
  strict: boolean,
  sent: Map<Publication, Sent>,
  log: Log,
): Promise<Tried> {
  let outcomes: readonly Outcome[];
  try {
    await server.circuit.wait();
    outcomes = await server.try(batch, patience.leftMs);
  } catch (error) {
    const failure =
      error instanceof TransportError ? error : new TransportError(String(error), true, undefined, { cause: error });
    return { again: batch, error: failure };
  }
  const again: Publication[] = [];
  const jobs = new Set<string>(); // with an event that was not taken
  let first: TransportError | undefined;
  for (const [index, publication] of batch.entries()) {
    const outcome = outcomes[index] as Outcome;
    const job = `${publication.key}\n${publication.event.jobId}`;
    const isError = outcome instanceof TransportError;
    if (isError && (strict || outcome.isPassing)) {
      first ??= outcome;
      jobs.add(job);
    }
    if (jobs.has(job)) {
      again.push(publication);
    } else if (isError) {
      log.unsent(publication, 1, server.name, server.inWords(outcome), patience.seconds);
    } else {
      sent.set(publication, outcome);
      if (outcome.unremembered !== undefined) {
        log.unremembered(publication, server.name, server.inWords(new TransportError(outcome.unremembered, false)));
      }
    }
  }
  return { again, error: first };
}

/** Send each lane by itself; what became of each event is in the order given. */
export async function sendByLane(
  publications: readonly Publication[],
  laneOf: (publication: Publication) => string,
  sendOne: (lane: string, publications: readonly Publication[]) => Promise<Sending>,
): Promise<Sending> {
  const lanes = new Map<string, Publication[]>();
  for (const one of publications) {
    const lane = laneOf(one);
    const those = lanes.get(lane);
    if (those) those.push(one);
    else lanes.set(lane, [one]);
  }
  const found = new Map<Publication, Sent>();
  const givenUp = new Set<Publication>();
  const sendLane = async ([lane, those]: [string, Publication[]]): Promise<void> => {
    const sending = await sendOne(lane, those);
    for (const [index, one] of those.entries()) found.set(one, sending.sent[index] as Sent);
    for (const one of sending.givenUp) givenUp.add(one);
  };
  await Promise.all([...lanes].map(sendLane));
  return { sent: publications.map((one) => found.get(one) ?? NOT_SENT), givenUp };
}
