/** Version 4 of Inngest's SDK. It and version 3 cannot run in one process: each spoils a global of the other. */

import { Inngest } from "inngest";
import { serve } from "inngest/edge";
import { endReporter, progressMiddleware } from "../../src/inngest.js";
import type { Handler } from "./executor.js";
import { QUIET, type Sdk } from "./sdk.js";

export const SDK: Sdk = {
  app(publisher, options) {
    const middleware = [progressMiddleware(publisher, options)];
    const client = new Inngest({ id: "studio", isDev: true, middleware, logger: QUIET });
    const triggers = [{ event: "test" }];
    return {
      create: (id, work, given) => client.createFunction({ id, triggers, ...given } as never, work as never),
      reporter: (given) => endReporter(client, publisher, given),
      serve: (...functions) => serve({ client, functions }) as Handler,
    };
  },
};
