/** Small notes that a script leaves on a node for a later one, as JSON. They hold no secret. */
import { readText, writeFile } from "./files.ts";

export interface Mark {
  /** ISO time. */
  made: string;
}

export function writeMark<T extends Mark>(path: string, mark: T, note: string) {
  writeFile(path, `${JSON.stringify(mark, null, 2)}\n`, { mode: 0o644, note });
}

/** Undefined where there is none, or where it cannot be read. */
export function readMark<T extends Mark>(path: string): T | undefined {
  try {
    const mark = JSON.parse(readText(path) ?? "null") as T | null;
    return mark && !Number.isNaN(Date.parse(mark.made)) ? mark : undefined;
  } catch (err) {
    if (err instanceof SyntaxError) return undefined;
    throw err;
  }
}
