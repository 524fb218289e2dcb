/** How long a batch is tried, what is sent again, and what is said of it: with a scripted server, on a simulated clock. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Circuit, TransportError, within } from "../src/circuit.js";
import { PublishError } from "../src/errors.js";
import { Log } from "../src/log.js";
import { type Publication, publicationOf } from "../src/publication.js";
import { type Outcome, type Sending, type Server, sendTo } from "../src/transport.js";
import { Collected } from "./support/collected.js";

const away = new TransportError("connect ECONNREFUSED", true);
const wrong = new TransportError("NOPERM no right", false);
const event = (jobId: string): Publication =>
  publicationOf("p", { type: "progress", jobId, jobType: "audio", progress: 1 }, "");

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setImmediate", "performance"] });
  vi.spyOn(Math, "random").mockReturnValue(1);
});
afterEach(() => {
  vi.useRealTimers();
});

/** Answers each try by the next step of a script; the last one stays. */
class Scripted implements Server {
  readonly circuit = new Circuit();
  readonly name = "Redis";
  readonly tries: Publication[][] = [];
  isProbed = false;
  readonly #steps: ((batch: readonly Publication[]) => readonly Outcome[] | Promise<readonly Outcome[]>)[];

  constructor(...steps: ((batch: readonly Publication[]) => readonly Outcome[] | Promise<readonly Outcome[]>)[]) {
    this.#steps = steps;
  }

  async try(batch: readonly Publication[]): Promise<readonly Outcome[]> {
    this.tries.push([...batch]);
    return (this.#steps.length > 1 ? this.#steps.shift() : this.#steps[0])!(batch);
  }

  async probe(): Promise<void> {
    if (!this.isProbed) throw away;
  }

  inWords(error: TransportError): string {
    return error.message;
  }
}

const taken = (batch: readonly Publication[]): Outcome[] => batch.map((_, index) => ({ seq: index + 1 }));
const gone = (): never => {
  throw away;
};

async function sent(
  server: Server,
  publications: readonly Publication[],
  { log = new Log(new Collected()), strict = false }: { log?: Log; strict?: boolean } = {},
): Promise<Sending> {
  const sending = sendTo(server, publications, log, strict);
  sending.catch(() => {});
  await vi.advanceTimersByTimeAsync(10_000);
  return sending;
}

describe("a server that is away", () => {
  test("tries within 5 seconds, with longer and longer pauses; then one line, and no more questions", async () => {
    const server = new Scripted(gone);
    const lines = new Collected();
    const log = new Log(lines);
    const { sent: outcomes, givenUp } = await sent(server, [event("a"), event("b")], { log });
    expect(outcomes).toEqual([{ seq: null }, { seq: null }]);
    expect(givenUp.size).toBe(2);
    expect(server.tries.length).toBe(10); // 50, 100, 200, 400 and then 800 ms apart
    expect(lines.lines).toEqual([
      "error publisher: Not sent after 4.8 s: progress of job 'a' in project 'p' and 1 more events. Redis: connect ECONNREFUSED",
    ]);
    await sent(server, [event("c")], { log });
    expect(server.tries.length).toBe(10);
    server.isProbed = true;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(server.circuit.isOpen).toBe(false);
    expect(lines.lines[1]).toBe("error publisher: Redis answers again; 1 more events were not sent");
  });

  test("a restart of 3 seconds loses nothing", async () => {
    const end = performance.now() + 3_000;
    const server = new Scripted((batch) => (performance.now() < end ? gone() : taken(batch)));
    expect((await sent(server, [event("a")])).sent).toEqual([{ seq: 1 }]);
  });

  test("one event may wait a moment for a probe that is about to succeed", async () => {
    const server = new Scripted(taken);
    server.circuit.open(
      () => server.probe(),
      () => {},
    );
    server.isProbed = true;
    expect((await sent(server, [event("a")])).sent).toEqual([{ seq: 1 }]);
  });

  test("with strict the error is raised", async () => {
    await expect(sent(new Scripted(gone), [event("a")], { strict: true })).rejects.toMatchObject({
      constructor: PublishError,
      message: "Redis: connect ECONNREFUSED",
    });
  });
});

describe("what one batch brings", () => {
  test("what no waiting mends is given up at once, and does not stop the others", async () => {
    const server = new Scripted(() => [wrong, { seq: 2 }]);
    const lines = new Collected();
    const log = new Log(lines);
    expect((await sent(server, [event("a"), event("b")], { log })).sent).toEqual([{ seq: null }, { seq: 2 }]);
    expect(server.tries).toHaveLength(1);
    expect(lines.lines).toEqual([
      "error publisher: Not sent after 0.0 s: progress of job 'a' in project 'p'. Redis: NOPERM no right",
    ]);
  });

  test("an event that was not taken is sent again, and what follows of its job with it", async () => {
    const server = new Scripted(() => [away, { seq: 2 }, { seq: 3 }], taken);
    const [first, other, second] = [event("a"), event("b"), event("a")];
    expect((await sent(server, [first, other, second])).sent).toEqual([{ seq: 1 }, { seq: 2 }, { seq: 2 }]);
    expect(server.tries[1]).toEqual([first, second]);
  });

  test("more than a thousand go in several round trips", async () => {
    const server = new Scripted(taken);
    await sent(
      server,
      Array.from({ length: 2_500 }, (_, index) => event(`j${index}`)),
    );
    expect(server.tries.map((batch) => batch.length)).toEqual([1_000, 1_000, 500]);
  });

  test("what could not be remembered is said once a minute", async () => {
    const server = new Scripted(() => [{ seq: 1, unremembered: "OOM full" }]);
    const lines = new Collected();
    const log = new Log(lines);
    await sent(server, [event("a")], { log });
    expect(lines.lines).toEqual([
      "error publisher: Sent, but not remembered for later viewers: progress of job 'a' in project 'p'. Redis: OOM full",
    ]);
  });

  test("the server's own pause is kept", async () => {
    const server = new Scripted(() => [new TransportError("429", true, 2_000)], taken);
    const sending = sendTo(server, [event("a")], new Log(new Collected()), false);
    await vi.advanceTimersByTimeAsync(1_900);
    expect(server.tries).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(200);
    expect((await sending).sent).toEqual([{ seq: 1 }]);
  });
});

test("an answer that is there when a blocked event loop goes on counts, although its time is over", async () => {
  vi.useRealTimers();
  let answer: (value: string) => void = () => {};
  const asked = within(new Promise<string>((resolve) => (answer = resolve)), 1);
  setImmediate(() => answer("in time"));
  const end = performance.now() + 20;
  while (performance.now() < end); // a job that computes
  expect(await asked).toBe("in time");
});
