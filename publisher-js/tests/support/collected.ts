/** What a logger was told. */

import type { Logger } from "../../src/index.js";

export class Collected implements Logger {
  readonly lines: string[] = [];

  warn(line: string): void {
    this.lines.push(`warn ${line}`);
  }

  error(line: string): void {
    this.lines.push(`error ${line}`);
  }
}
