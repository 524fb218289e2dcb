/** One client for each URL, and so one socket, wherever on the page it is named. */

import { render } from "@testing-library/react";
import { StrictMode } from "react";
import { expect, test, vi } from "vitest";
import { clientFor } from "../src/clients.js";
import { ProgressProvider, useConnectionStatus, useJob, useWebSocket } from "../src/index.js";
import { advance, GATEWAY_URL, noted, progress, watcher, withClock } from "./react-support.js";

withClock();

const Watch = ({ id, url }: { id: string; url?: string }) => <p>{useWebSocket(id, { url }).status}</p>;

test("two providers with one URL are one socket", async () => {
  const wire = noted();
  const options = { url: GATEWAY_URL, webSocketImpl: wire.WebSocket };
  const { container } = render(
    <>
      <ProgressProvider {...options}>
        <Watch id="project_1" />
      </ProgressProvider>
      <ProgressProvider {...options}>
        <Watch id="project_2" />
      </ProgressProvider>
    </>,
  );
  await advance();
  expect(container.textContent).toBe("connectedconnected");
  expect(wire.urls).toEqual([GATEWAY_URL]);
});

test("a provider with a token shares with none that has no token", async () => {
  const wire = noted();
  const options = { url: GATEWAY_URL, webSocketImpl: wire.WebSocket };
  render(
    <>
      <ProgressProvider {...options}>
        <Watch id="project_1" />
      </ProgressProvider>
      <ProgressProvider {...options} getToken={() => "t"}>
        <Watch id="project_2" />
      </ProgressProvider>
    </>,
  );
  await advance();
  expect(wire.urls).toEqual([GATEWAY_URL, GATEWAY_URL]);
  expect(wire.tokens()).toEqual(["t"]);
});

test("a hook's `url` inside a provider with the same URL is the provider's connection, with its token", async () => {
  const wire = noted();
  const Job = () => <p>{useJob("project_1", "job_1", { url: GATEWAY_URL })?.percent}</p>;
  const Status = () => <p>{useConnectionStatus({ url: GATEWAY_URL })}</p>;
  const { container } = render(
    <StrictMode>
      <ProgressProvider url={GATEWAY_URL} webSocketImpl={wire.WebSocket} getToken={() => "t"}>
        <Watch id="project_1" url={GATEWAY_URL} />
        <Job />
        <Status />
      </ProgressProvider>
    </StrictMode>,
  );
  await advance();
  wire.gateway.publish("project_1", progress("job_1", 40));
  await advance();
  expect(container.textContent).toBe("connected40connected");
  expect(wire.urls).toEqual([GATEWAY_URL]);
  expect(wire.tokens()).toEqual(["t"]);
});

test("a client by URL that nothing uses any more is let go", () => {
  const refs: { deref(): object | undefined; target: object | undefined }[] = [];
  vi.stubGlobal(
    "WeakRef",
    class {
      target: object | undefined;
      constructor(target: object) {
        this.target = target;
        refs.push(this);
      }
      deref() {
        return this.target;
      }
    },
  );
  const first = clientFor({ url: "ws://let-go.test/ws" });
  expect(clientFor({ url: "ws://let-go.test/ws" })).toBe(first);
  expect(refs).toHaveLength(1); // all that the page holds by itself is weak
  refs[0]!.target = undefined; // collected
  expect(clientFor({ url: "ws://let-go.test/ws" })).not.toBe(first);
});

test("a new onError in each render makes no new client, and the latest one is called", async () => {
  const wire = noted();
  const { Watch: Noted } = watcher();
  const [first, second] = [vi.fn(), vi.fn()];
  const element = (onError: typeof first) => (
    <ProgressProvider url={GATEWAY_URL} webSocketImpl={wire.WebSocket} onError={onError}>
      <Noted id="project_1" />
    </ProgressProvider>
  );
  const { rerender } = render(element(first));
  await advance();
  rerender(element(second));
  wire.gateway.closeAll();
  await advance();
  expect([first.mock.calls.length, second.mock.calls.length]).toEqual([0, 1]);
  expect(wire.urls).toHaveLength(1);
});
