/** Reads the records of a panel. */

import type { PanelRecord } from "../app/records.js";

/** The statuses that were shown, without repetitions. */
export const statuses = ({ log }: PanelRecord): string[] =>
  log.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1]);

/** How often each event reached `onEvent`, by its seq. */
export const timesSeen = ({ events }: PanelRecord, seqs: number[]): number[] =>
  seqs.map((seq) => events.filter((event) => event.seq === seq).length);

/** The ids of the jobs that `onTerminal` reported, sorted; one that was reported twice is there twice. */
export const ends = ({ terminals }: PanelRecord): string[] => terminals.map(({ job }) => job.jobId).sort();
