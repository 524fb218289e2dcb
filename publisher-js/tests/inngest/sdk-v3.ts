/** Version 3 of Inngest's SDK. It and version 4 cannot run in one process: each spoils a global of the other. */

import { Inngest } from "inngest-v3";
import { serve } from "inngest-v3/edge";
import { endReporter, progressMiddleware } from "../../src/inngest-v3.js";
import type { Handler } from "./executor.js";
import { QUIET, type Sdk } from "./sdk.js";

export const SDK: Sdk = {
  app(publisher, options = {}) {
    const middleware = [progressMiddleware(publisher, options)] as never;
    const client = new Inngest({ id: "studio", isDev: true, middleware, logger: QUIET });
    const { projectId, jobId, jobType } = options;
    return {
      create: (id, work, given) => client.createFunction({ id, ...given } as never, { event: "test" }, work as never),
      reporter: (given) => endReporter(client, publisher, { projectId, jobId, jobType, ...given }),
      serve: (...functions) => serve({ client, functions }) as Handler,
    };
  },
};
