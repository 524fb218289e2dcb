/** A stand-in for Inngest's server: it sends the requests of one run to a served app. As examples/inngest/executor.py. */

/** A result that Inngest remembers of a step. */
type RunStep = { type: "data"; data: unknown } | { type: "error"; error: unknown };

export type Handler = (request: Request) => Promise<Response>;

export interface Op {
  id: string;
  op: string;
  data?: unknown;
  error?: unknown;
}

export interface RunOptions {
  data: Record<string, unknown>;
  runId?: string;
  maxAttempts?: number;
  eventName?: string;
  /** More of the context that Inngest sends. */
  context?: Record<string, unknown>;
  /** Of the answers to steps that Inngest itself makes, such as `step.invoke`. */
  answer?: (op: Op) => unknown;
}

/** One run of a function. Tries are counted from 0 in each step, and the steps of a parallel group are asked for one by one. */
export class Run {
  readonly runId: string;
  readonly #handler: Handler;
  readonly #fnId: string;
  readonly #options: RunOptions;
  readonly #maxAttempts: number;
  readonly #steps: Record<string, RunStep> = {};
  #hasPlanned = false;
  requests = 0;

  constructor(handler: Handler, fnId: string, options: RunOptions) {
    this.#handler = handler;
    this.#fnId = fnId;
    this.#options = options;
    this.#maxAttempts = options.maxAttempts ?? 4;
    this.runId = options.runId ?? crypto.randomUUID();
  }

  /** Run the function to its end. */
  async execute(): Promise<["completed" | "failed", unknown]> {
    let attempt = 0;
    for (;;) {
      const response = await this.request("step", attempt);
      if (response.status === 200) return ["completed", await response.json()];
      if (response.status !== 206) {
        const error: unknown = await response.json();
        if (this.#isFinal(response, attempt)) return ["failed", error];
        attempt += 1;
        continue;
      }
      const ops = (await response.json()) as Op[];
      const complete = ops.find(({ op }) => op === "RunComplete");
      if (complete) return ["completed", complete.data];
      const planned = ops.filter(({ op }) => op === "StepPlanned");
      for (const { id } of planned) await this.#executePlanned(id);
      const own = ops.filter(({ op }) => op !== "StepPlanned");
      if (planned.length === 0 || own.length > 0) attempt = await this.#take(own[0] as Op, response, attempt);
    }
  }

  async #executePlanned(id: string): Promise<void> {
    this.#hasPlanned = true;
    for (let attempt = 0; this.#steps[id] === undefined; ) {
      const response = await this.request(id, attempt);
      const [op] = (await response.json()) as Op[];
      attempt = await this.#take(op as Op, response, attempt);
    }
  }

  /** Remember the result of a step; returns the number of the next try. */
  async #take({ id, op, data, error }: Op, response: Response, attempt: number): Promise<number> {
    if (op === "StepError" || op === "StepFailed") {
      if (op === "StepError" && !this.#isFinal(response, attempt)) return attempt + 1;
      this.#steps[id] = { type: "error", error };
    } else if (op === "Sleep") {
      this.#steps[id] = { type: "data", data: null };
    } else if (op === "InvokeFunction") {
      this.#steps[id] = { type: "data", data: await this.#options.answer?.({ id, op, data }) };
    } else {
      this.#steps[id] = { type: "data", data: data ?? null };
    }
    return 0;
  }

  /** Results that the app tells before its answer, while it goes on: checkpoints. */
  takeEarly(ops: readonly Op[]): void {
    for (const { id, data } of ops) this.#steps[id] = { type: "data", data: data ?? null };
  }

  #isFinal(response: Response, attempt: number): boolean {
    return response.headers.get("x-inngest-no-retry") === "true" || attempt + 1 >= this.#maxAttempts;
  }

  /** Call the function once, with the request that Inngest's executor would send. */
  async request(stepId: string, attempt: number): Promise<Response> {
    this.requests += 1;
    const event = { name: this.#options.eventName ?? "test", data: this.#options.data, id: "", ts: 0 };
    const body = {
      ctx: {
        attempt,
        disable_immediate_execution: this.#hasPlanned,
        max_attempts: this.#maxAttempts,
        run_id: this.runId,
        ...this.#options.context,
        stack: { stack: Object.keys(this.#steps), current: Object.keys(this.#steps).length },
      },
      event,
      events: [event],
      steps: this.#steps,
      use_api: false,
    };
    const url = `http://app.test/api/inngest?fnId=${this.#fnId}&stepId=${stepId}`;
    const headers = { Host: "app.test", "Content-Type": "application/json", "x-inngest-server-kind": "dev" };
    return this.#handler(new Request(url, { method: "POST", headers, body: JSON.stringify(body) }));
  }
}
