/** What version 3 of Inngest's SDK has no hooks for: when the code of a step begins, and when a result is read. */

import type { Rerun } from "./rerun.js";

/**
 * The step tools of a request, which tell `rerun` what they see. A promise of a tool settles only where Inngest knows
 * the result; a request ends before that of a new step does.
 */
export function watchSteps<T extends object>(step: T, rerun: Rerun): T {
  return new Proxy(step, {
    get(target, name, receiver) {
      const tool: unknown = Reflect.get(target, name, receiver);
      if (typeof tool === "object" && tool !== null) return watchSteps(tool, rerun); // `step.ai`
      if (typeof tool !== "function") return tool;
      return (...args: unknown[]) => {
        const watched =
          name === "run" && typeof args[1] === "function" ? [args[0], inStep(args[1], rerun), ...args.slice(2)] : args;
        const result: unknown = Reflect.apply(tool, target, watched);
        return result instanceof Promise ? onRead(result, rerun) : result;
      };
    },
  });
}

// biome-ignore lint/complexity/noBannedTypes: the code of a step takes any arguments
function inStep(work: Function, rerun: Rerun) {
  return (...args: unknown[]) => rerun.inStep(() => work(...args));
}

/** The result is read before the function goes on with it. */
async function onRead(result: Promise<unknown>, rerun: Rerun): Promise<unknown> {
  try {
    return await result;
  } finally {
    rerun.onRead();
  }
}

/** Whether a request asks for one step. Its address is in what the framework gave to the handler, in one of many places. */
export function isTargeted(reqArgs: readonly unknown[]): boolean {
  return reqArgs.some((arg) => {
    const stepId = stepIdIn(arg) ?? stepIdIn((arg as { req?: unknown } | null | undefined)?.req);
    return stepId !== undefined && stepId !== "step";
  });
}

function stepIdIn(request: unknown): string | undefined {
  if (typeof request !== "object" || request === null) return undefined;
  const { url, originalUrl, query, queryStringParameters } = request as Record<string, unknown>;
  for (const address of [url, originalUrl]) {
    const found = /[?&]stepId=([^&#]+)/.exec(String(address ?? ""))?.[1];
    if (found !== undefined) return found;
  }
  for (const values of [query, queryStringParameters]) {
    const found =
      typeof values === "object" && values !== null ? (values as Record<string, unknown>).stepId : undefined;
    if (typeof found === "string") return found;
  }
  return undefined;
}
