/** What the test page records for the test, by the names of its components. */

import type { ConnectionStatus, Job, JobEvent, Snapshot } from "../../src/index.js";

/** What one commit showed. */
export interface Shown {
  projectId: string | null | undefined;
  status: ConnectionStatus;
  isStale: boolean;
  recovered: boolean;
  error: string | number | null;
  /** Each job's percent. */
  jobs: Record<string, number>;
  lastSeq: number | null;
}

export interface PanelRecord {
  /** The latest result of the hook. */
  result: Snapshot | null;
  commits: number;
  /** Commits in order. */
  log: Shown[];
  events: JobEvent[];
  terminals: { job: Job; event: JobEvent }[];
}

/** The record of useJob or useConnectionStatus. */
interface ValueRecord {
  value: unknown;
  commits: number;
  log: unknown[];
}

/** The record of a control that uses a plain WebSocket. */
interface HandRecord {
  sockets: number;
  isOpen: boolean;
  messages: { type: string; jobId?: string; seq?: number }[];
  commits: number;
}

export interface Records {
  panels: Record<string, PanelRecord>;
  values: Record<string, ValueRecord>;
  hands: Record<string, HandRecord>;
}

declare global {
  var records: Records;
}

globalThis.records ??= { panels: {}, values: {}, hands: {} };

export const panelRecord = (name: string): PanelRecord =>
  (records.panels[name] ??= { result: null, commits: 0, log: [], events: [], terminals: [] });

export const valueRecord = (name: string): ValueRecord =>
  (records.values[name] ??= { value: null, commits: 0, log: [] });

export const handRecord = (name: string): HandRecord =>
  (records.hands[name] ??= { sockets: 0, isOpen: false, messages: [], commits: 0 });
