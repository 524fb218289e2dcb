/** A gateway that asks for tokens, and a page that gets them from its own server. */

import { expect } from "vitest";
import { test } from "./support/lab.js";
import { complete, Publisher, progress, Redis, Replica } from "./support/processes.js";
import { ends, timesSeen } from "./support/read.js";
import { TokenServer } from "./support/tokens.js";
import { until } from "./support/wait.js";

const LIFE_SECONDS = 5;

test("a token is refreshed in band, and a page that sleeps past the end of one comes back by itself", async ({
  lab,
}) => {
  const redis = await lab.own(Redis.start());
  const publisher = await lab.own(new Publisher(redis));
  const settings = { GATEWAY_AUTH: "jwt", GATEWAY_JWT_SECRET: TokenServer.SECRET };
  const replica = await lab.own(Replica.start(redis, settings));
  const tokens = await lab.own(TokenServer.start(LIFE_SECONDS, ["mine"]));
  const [early = 0] = await publisher.publish("mine", progress("job", 10));
  const page = await lab.open({
    url: replica.url,
    tokenUrl: tokens.url,
    panels: [
      { name: "one", projectId: "mine" },
      { name: "other", projectId: "yours" },
    ],
  });
  await page.untilJob("job", 10);
  await page.until("the other project is forbidden", ({ result }) => result?.error?.code === "forbidden", {
    name: "other",
  });
  // On a machine that is too slow for this a token may expire first: then the next one is refreshed in band.
  const isRefreshed = ({ sent }: { sent: { type: string }[] }): boolean =>
    sent.filter(({ type }) => type === "auth").length > 1;
  await until("a token was refreshed in band", async () => page.sockets.some(isRefreshed));

  const before = tokens.made;
  let missed: number[] = [];
  await lab.sleepMachine((LIFE_SECONDS + 3) * 1_000, async () => {
    missed = await publisher.publish("mine", complete("job"));
  });
  const panel = await page.untilJob("job", 100);
  await page.until("it is current", ({ result }) => result && !result.isStale);
  expect(tokens.made).toBeGreaterThan(before);
  expect(timesSeen(panel, [early, ...missed])).toEqual([1, 1]);
  expect(ends(panel)).toEqual(["job"]);
  expect(page.sockets.every(({ url }) => !url.includes("token"))).toBe(true);
});
