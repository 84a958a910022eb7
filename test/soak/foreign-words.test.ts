/**
 * A foreign word is one short line: each string that a kubelet, a network plugin or a tenant may write, with each way to
 * end a line, by each script that reads it. test/typed/foreign-words.test.ts has a sample.
 */
import { setDefaultTimeout, test } from "bun:test";
import {
  expectOneLine,
  FORMS,
  nameOf,
  type Row,
  SCENES,
  type Scene,
  writtenByOthers,
} from "../pretend/foreign-words.ts";
import { rowsOf } from "./sample.ts";

setDefaultTimeout(300_000);

const written = await writtenByOthers();
const rows = rowsOf([...ofWriters(), ...ofObjects(), ...ofStrings()], 149).flatMap((row) =>
  Object.keys(SCENES).map((scene) => [`${nameOf(row)}, ${scene}`, row, scene as Scene] as const),
);

test.each(rows)("%s", (_, row, scene) => expectOneLine(row, scene));

/** All objects of a writer, with each form. */
function ofWriters(): Row[] {
  const writers = Map.groupBy(written, ({ who }) => who);
  return [...writers.values()].flatMap((all) => {
    const keys = all.map(({ key }) => key);
    return Object.keys(FORMS).flatMap((form) =>
      (["all but names", "all strings"] as const).map((where) => ({ keys, form, where })),
    );
  });
}

/** Each object alone, with all forms in each string. */
function ofObjects(): Row[] {
  return written.map(({ key }) => ({ keys: [key], form: "ALL", where: "all but names" }));
}

/** Each string alone, once for all objects of a kind that one writer has. */
function ofStrings(): Row[] {
  const kinds = new Map<string, Row>();
  for (const { key, who, paths } of written)
    for (const path of paths) {
      const kind = [who, key.split("/")[0], ...path.filter((part) => !/^\d+$/.test(part))].join(" ");
      if (!kinds.has(kind)) kinds.set(kind, { keys: [key], form: "ALL", where: path });
    }
  return [...kinds.values()];
}
