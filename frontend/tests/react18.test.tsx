/** The package needs React 18 or newer. These tests run with a newer one, so they check which parts of React it uses. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { render } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { ProgressProvider, useConnectionStatus, useJob, useWebSocket } from "../src/index.js";
import { advance, noted, progress, withClock } from "./react-support.js";

// All exports of React 18.0, without the unstable ones and those for tests.
const REACT_18 = vi.hoisted(() => [
  "Children",
  "Component",
  "Fragment",
  "Profiler",
  "PureComponent",
  "StrictMode",
  "Suspense",
  "cloneElement",
  "createContext",
  "createElement",
  "createFactory",
  "createRef",
  "forwardRef",
  "isValidElement",
  "lazy",
  "memo",
  "startTransition",
  "useCallback",
  "useContext",
  "useDebugValue",
  "useDeferredValue",
  "useEffect",
  "useId",
  "useImperativeHandle",
  "useInsertionEffect",
  "useLayoutEffect",
  "useMemo",
  "useReducer",
  "useRef",
  "useState",
  "useSyncExternalStore",
  "useTransition",
  "version",
]);

// Reading any other export throws.
vi.mock("react", async (importOriginal) => {
  const react = await importOriginal<Record<string, unknown>>();
  return Object.fromEntries(REACT_18.filter((name) => name in react).map((name) => [name, react[name]]));
});

withClock();

test("the hooks and the provider work with what React 18 has", async () => {
  const { client, gateway } = noted();
  const Page = () => {
    const { status, jobs } = useWebSocket("project_1");
    return (
      <output>
        {status} {useConnectionStatus()} {jobs["job_1"]?.percent} {useJob("project_1", "job_1")?.percent}
      </output>
    );
  };
  const { container } = render(
    <ProgressProvider client={client()}>
      <Page />
    </ProgressProvider>,
  );
  await advance();
  gateway.publish("project_1", progress("job_1", 40));
  await advance();
  expect(container.textContent).toBe("connected connected 40 40");
});

test("a context is provided in the way that React 18 knows", () => {
  const source = readFileSync(join(import.meta.dirname, "../src/hooks.tsx"), "utf8");
  expect(source).toMatch(/<\w*Context\.Provider/);
  expect(source, "<Context> as a provider is of React 19").not.toMatch(/<\w*Context[\s>]/);
  expect(source, "so is `ref` as a prop").not.toMatch(/\bref=\{/);
});
