/**
 * The clusters of unlike-*.ts in each disaster: they come back with what they had, or are refused by name before
 * anything is touched. A row is a cluster, a play a disaster; what is expected of a row is in the row. The play "all
 * lost" is played by test/scripts/unlike-*.test.ts as well.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { globSync } from "node:fs";
import { tmpdir } from "node:os";
import { lastWords, leftAlone } from "../pretend/stays-healthy.ts";
import { runsHere } from "../pretend/typed-here.ts";
import { bringBack, notBack, PLAYS, type Play, type Unlike } from "../pretend/unlike.ts";
import { ROWS } from "../pretend/unlike-rows.ts";
import { rowsOf } from "./sample.ts";

setDefaultTimeout(300_000);

const ALL = ROWS.flatMap((row) =>
  (Object.keys(PLAYS) as Play[]).map((play) => [play, row.name, row] as const),
);
/** Of others, where nothing gives this file a temporary folder of its own. */
const OWN = `${tmpdir()}/unlike-${process.pid}-*`;
const BEFORE = globSync(OWN);

/**
 * Files that only copies bring back are lost in both plays that lose; without keys of its own no part stops a node for
 * other nodes' keys. What a healthy cluster is refused for, it is refused for after each disaster.
 */
function expectedOf(
  { lost = {}, plays, ends }: Unlike,
  play: Play,
): { refuses?: RegExp; code?: number; without?: RegExp | undefined } {
  const own = plays?.[play] ?? (play === "all lost" ? lost : undefined);
  if (own)
    return { ...own, ...(own.refuses ? { refuses: own.refuses[1] } : { refuses: undefined }) } as never;
  const always = ends?.["01-etcd"]?.names;
  const isOfFile = lost.refuses && !/hand-over/.test(lost.refuses[1].source);
  const refuses =
    always ?? (play === "lost, and the old keys found" && isOfFile ? lost.refuses![1] : undefined);
  return refuses ? { refuses } : { without: lost.without };
}

test.each(rowsOf(ALL, 101))("%s: %s", async (play, _, row) => {
  const { last, before, after } = await bringBack(row, runsHere, play);
  const expected = expectedOf(row, play);
  if (expected.refuses) {
    expect({ exitCode: last.exitCode, said: lastWords(last) }).toMatchObject({
      exitCode: expected.code ?? 3,
      said: expect.stringMatching(expected.refuses),
    });
    return last.script === "02-control-plane" ? undefined : expect(last.changed).toEqual([]);
  }
  expect({ script: last.script, exitCode: last.exitCode, said: lastWords(last) }).toMatchObject({
    script: "02-control-plane",
    exitCode: 0,
  });
  expect(notBack(before, after, expected.without)).toEqual([]);
});

test.each(rowsOf(ROWS, 61).map((row) => [row.name, row] as const))(
  "if 00-assess calls it well, parts 1 and 2 change no byte: %s",
  async (_, row) => {
    expect(await leftAlone(row, runsHere)).toEqual([]);
  },
);

test("a row leaves no folder behind, nor does one that fails", async () => {
  const change = () => {
    throw new Error("it fails");
  };
  await expect(bringBack({ name: "it fails", who: "this test", change }, runsHere)).rejects.toThrow(
    "it fails",
  );
  expect(globSync(OWN).filter((path) => !BEFORE.includes(path))).toEqual([]);
});
