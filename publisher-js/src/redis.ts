/** Publishes through Redis, by the publish.lua of the Python package. */

import { createHash } from "node:crypto";
import script from "../../publisher/publish.lua";
import { isPassing, withAdvice } from "./advice.js";
import { Circuit, TransportError } from "./circuit.js";
import { PublishError } from "./errors.js";
import type { Log } from "./log.js";
import { jobField, jobsKey, redisChannelOf } from "./names.js";
import { NOT_SENT, type Publication, payloadWithoutReplay, scriptArguments, sentOf } from "./publication.js";
import { type Link, linkOf } from "./redis-link.js";
import { isReplayOn, namespaceOf } from "./settings.js";
import { type Outcome, type Sending, type Server, sendByLane, sendTo, type Transport } from "./transport.js";
import type { RedisOptions } from "./types.js";

export const SCRIPT: string = script;
const SCRIPT_SHA = createHash("sha1").update(script).digest("hex");
const NAME = "Redis";

export class RedisTransport implements Transport {
  readonly namespace: string;
  readonly replay: boolean;
  readonly #link: Link;
  readonly #log: Log;
  readonly #verb: "PUBLISH" | "SPUBLISH";
  // By lane. In a Cluster a part may be away while others answer, and the client does not say which node has a project.
  readonly #servers = new Map<string, RedisServer>();

  constructor(options: RedisOptions, log: Log) {
    this.namespace = namespaceOf(options);
    this.replay = isReplayOn(options);
    this.#log = log;
    this.#link = linkOf(options.redis, (error) => {
      log.complain("client", `The client of Redis: ${withAdvice(textOf(error))}`);
    });
    this.#verb = this.#link.isCluster ? "SPUBLISH" : "PUBLISH";
  }

  laneOf(projectId: string): string {
    return this.#link.isCluster ? projectId : "";
  }

  isAway(projectId: string): boolean {
    return this.#servers.get(this.laneOf(projectId))?.circuit.isOpen ?? false;
  }

  async send(publications: readonly Publication[], strict = false): Promise<Sending> {
    const laneOf = (one: Publication): string => this.laneOf(one.projectId);
    return sendByLane(publications, laneOf, (lane, those) => this.#sendOne(lane, those, strict));
  }

  async #sendOne(lane: string, publications: readonly Publication[], strict: boolean): Promise<Sending> {
    const server = this.#servers.get(lane) ?? new RedisServer(this.#link, this.#verb, this.replay);
    this.#servers.set(lane, server);
    try {
      return await sendTo(server, publications, this.#log, strict);
    } finally {
      // A Cluster may have any number of projects: what answers is not kept.
      if (lane && !server.circuit.isOpen) this.#servers.delete(lane);
    }
  }

  async remembered(projectId: string, jobId: string, sentenceId: string | undefined): Promise<string | null> {
    const key = this.#key(projectId);
    const [payload] = (await this.#ask(key, ["HMGET", key, jobField(jobId, sentenceId)])) as [unknown];
    return typeof payload === "string" ? payload : null;
  }

  async allRemembered(projectId: string): Promise<ReadonlyMap<string, string>> {
    const key = this.#key(projectId);
    return new Map(pairsOf(await this.#ask(key, ["HGETALL", key])));
  }

  #key(projectId: string): string {
    return jobsKey(redisChannelOf(projectId, this.namespace));
  }

  async #ask(key: string, words: readonly string[]): Promise<unknown> {
    try {
      await this.#link.ready(1_000);
      return await this.#link.call(key, words);
    } catch (error) {
      throw new PublishError(`${NAME}: ${withAdvice(textOf(error))}`, { cause: error });
    }
  }

  close(): void {
    for (const server of this.#servers.values()) server.circuit.close();
    this.#link.close();
  }
}

/** A client may answer a list, an object or a map. */
function pairsOf(answer: unknown): [string, string][] {
  if (answer instanceof Map) return [...answer] as [string, string][];
  if (!Array.isArray(answer)) return Object.entries(answer as object);
  return answer.flatMap((name, index) => (index % 2 === 0 ? [[name, answer[index + 1]] as [string, string]] : []));
}

class RedisServer implements Server {
  readonly name = NAME;
  readonly circuit = new Circuit();
  readonly #link: Link;
  readonly #verb: string;
  readonly #replay: boolean;

  constructor(link: Link, verb: string, replay: boolean) {
    this.#link = link;
    this.#verb = verb;
    this.#replay = replay;
  }

  async try(batch: readonly Publication[], leftMs: number): Promise<readonly Outcome[]> {
    await this.#link.ready(leftMs);
    // Handed over in one step, so that they go out together and in order.
    const answers = await Promise.all(batch.map((one) => this.#answer(one, this.#command(one))));
    const unknown = [...answers.keys()].filter((index) => isNoScript(answers[index]));
    // The first events since the server started, or after SCRIPT FLUSH. EVAL loads the script for the others; in a
    // Cluster each may be of another node.
    const again = unknown.map((index, place) => {
      const publication = batch[index] as Publication;
      const isLoading = place === 0 || this.#link.isCluster;
      return this.#answer(publication, isLoading ? this.#eval(publication) : this.#command(publication));
    });
    for (const [place, answer] of (await Promise.all(again)).entries()) answers[unknown[place] as number] = answer;
    return answers.map((answer) => (this.#replay ? outcomeOf(answer) : withoutReplay(answer)));
  }

  async probe({ key }: Publication): Promise<unknown> {
    await this.#link.ready(0);
    // A write that changes nothing: a replica or a frozen server fails it.
    const answer = await this.#call(key, ["HDEL", key, "~probe"]);
    if (answer instanceof TransportError) throw answer;
    return answer;
  }

  inWords(error: TransportError): string {
    return withAdvice(error.message);
  }

  #command(publication: Publication): string[] {
    return this.#replay
      ? ["EVALSHA", SCRIPT_SHA, ...scriptArguments(publication, this.#verb)]
      : [this.#verb, publication.redisChannel, payloadWithoutReplay(publication)];
  }

  #eval(publication: Publication): string[] {
    return ["EVAL", SCRIPT, ...scriptArguments(publication, this.#verb)];
  }

  #answer(publication: Publication, words: readonly string[]): Promise<unknown> {
    return this.#call(publication.key, words);
  }

  /** The answer, or an error in its place. */
  async #call(key: string, words: readonly string[]): Promise<unknown> {
    try {
      return await this.#link.call(key, words);
    } catch (error) {
      const text = textOf(error);
      return error instanceof TransportError
        ? error
        : new TransportError(text, isPassing(text), undefined, { cause: error });
    }
  }
}

const isNoScript = (answer: unknown): boolean =>
  answer instanceof TransportError && answer.message.startsWith("NOSCRIPT");

function outcomeOf(answer: unknown): Outcome {
  if (answer instanceof TransportError) return answer;
  try {
    return sentOf(answer);
  } catch {
    return new TransportError(`an answer cannot be read: ${String(answer).slice(0, 200)}`, false);
  }
}

const withoutReplay = (answer: unknown): Outcome => (answer instanceof TransportError ? answer : NOT_SENT);

const textOf = (error: unknown): string =>
  (error instanceof AggregateError && error.errors.length > 0 ? textOf(error.errors[0]) : "") ||
  (error instanceof Error && error.message) ||
  String(error);
