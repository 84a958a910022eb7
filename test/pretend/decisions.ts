/**
 * What is decided in each row of a table, in test/transcripts/decisions/: read the difference.
 * UPDATE_TRANSCRIPTS=1 writes it anew.
 */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { ADDRESS } from "./cluster.ts";
import { SHOWN_ADDRESS } from "./node.ts";

/** Certificates of the rows are made today. */
const DAY = /\b20\d\d-\d\d-\d\d\b/g;

const FOLDER = join(import.meta.dir, "../transcripts/decisions");

/** For a table: holds what was decided in a row against what its file has. */
export function decisions(table: string): (row: string, decided: unknown) => void {
  const file = join(FOLDER, `${table}.yaml`);
  const known: Record<string, unknown> = existsSync(file) ? parse(readFileSync(file, "utf8")) : {};
  return (row, decided) => {
    const shown = JSON.stringify(decided).replaceAll(ADDRESS, SHOWN_ADDRESS).replace(DAY, "DATE");
    const plain = JSON.parse(shown);
    if (process.env.UPDATE_TRANSCRIPTS) {
      known[row] = plain;
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(file, stringify(known, { lineWidth: 0, aliasDuplicateObjects: false }));
    }
    expect(plain).toEqual(known[row]);
  };
}

/** Without the notes behind it. */
export function commandOf(line: string): string {
  return line.replace(/ {2,}#.*/, "");
}
