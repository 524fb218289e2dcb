/** The hooks, and the client underneath. Only hooks.tsx is for client components: a server component can read the rest. */

export * from "./core.js";
export {
  ProgressProvider,
  type ProgressProviderProps,
  useConnectionStatus,
  useJob,
  useSentence,
  useWebSocket,
  type WebSocketOptions,
  type WebSocketResult,
} from "./hooks.js";
