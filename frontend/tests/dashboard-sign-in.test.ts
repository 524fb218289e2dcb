/** The page at `/` where the gateway asks for tokens. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeGateway } from "../src/testing.js";
import { $, advance, texts, withPage } from "./dashboard-support.js";

withPage();
beforeEach(() => vi.resetModules());
afterEach(() => sessionStorage.clear());

/** Open the page at this address, on a gateway that takes the token "good" for project `a`. */
async function open(address: string): Promise<FakeGateway> {
  const gateway = new FakeGateway();
  gateway.allow("good", { projects: ["a"] });
  vi.stubGlobal("WebSocket", gateway.WebSocket);
  vi.stubGlobal("fetch", async () => ({ json: async () => null }));
  history.replaceState(null, "", address);
  await import("../dashboard/main.js");
  await advance(200);
  return gateway;
}

const shown = (gateway: FakeGateway): string[] =>
  gateway.connections.flatMap(({ received }) =>
    received.flatMap((message) => ("token" in message ? message.token : [])),
  );

function submit(token: string): void {
  $<HTMLInputElement>("#token").value = token;
  $("#sign-in").dispatchEvent(new Event("submit", { cancelable: true }));
}

test("a token in `#token=` is taken, kept for the tab, and taken off the address bar", async () => {
  const gateway = await open("/?project=a#token=good");
  expect(location.href).toMatch(/\?project=a$/);
  expect(shown(gateway)).toEqual(["good"]);
  expect(gateway.connections.map(({ url }) => url)).toEqual([expect.not.stringContaining("good")]);
  expect(texts(".status-text")).toEqual(["Connected"]);
  expect($("#sign-in").hidden).toBe(true);
  expect(Object.values({ ...sessionStorage })).toEqual(["good"]);
});

test("without a token the page asks for one; a bad one is said, a good one opens it", async () => {
  const gateway = await open("/?project=a");
  expect($("#sign-in").hidden).toBe(false);
  expect(texts(".why")).toEqual(["This gateway asks for a token (no token)."]);
  submit("bad");
  expect($("#sign-in").hidden).toBe(true);
  await advance(20_000);
  expect($("#sign-in").hidden).toBe(false);
  expect(texts(".why")).toEqual(["This gateway asks for a token (bad token)."]);
  submit(" good ");
  await advance(200);
  expect($("#sign-in").hidden).toBe(true);
  expect(texts(".status-text")).toEqual(["Connected"]);
  expect($<HTMLInputElement>("#token").value).toBe("");
  expect(shown(gateway)).toEqual(["good"]);
});

test("a project that the token does not cover is said to be forbidden; the others are shown", async () => {
  await open("/?project=a&project=b#token=good");
  await advance(2_000);
  expect(texts(".status-text")).toEqual(["Connected", "Disconnected"]);
  expect(texts(".notice p")).toContain("Forbidden: your token does not cover this project.");
  expect($("#sign-in").hidden).toBe(true);
});
