/**
 * What holds on a healthy cluster that differs from the usual one in one thing, as tests: one describe a row.
 * The files test/scripts/unlike-….test.ts share the rows.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { runner } from "./many-runs.ts";
import { runsHere } from "./typed-here.ts";
import {
  bringBack,
  type End,
  notBack,
  type Runner,
  SCRIPTS,
  type Seen,
  type Unlike,
  USUAL,
  unlike,
} from "./unlike.ts";

/**
 * On each cluster every script of parts 0 to 5 stops nothing, changes no file and no object, and ends well,
 * or refuses by name. And with /etc/kubernetes lost it comes back with what it had, or is refused before
 * anything is touched. The usual cluster is tried by whole scripts, and the others by their main.
 */
export function staysHealthy(rows: readonly Unlike[]) {
  const whole = runner();
  afterAll(() => whole[Symbol.dispose]());

  describe.each(rows.map((row) => [row.name, row] as const))("%s", (_, row) => {
    const runs = row.name === USUAL ? whole : runsHere;
    let cluster: Awaited<ReturnType<typeof unlike>> | undefined;
    const end = () => {
      cluster?.[Symbol.dispose]();
      cluster = undefined;
    };
    beforeAll(async () => {
      cluster = await unlike(row, runs);
    });
    afterAll(end);

    test.each(SCRIPTS)("%s leaves it alone", async (script) => {
      const { typed = script, code = 3, names } = row.ends?.[script] ?? { code: 0, names: undefined };
      const answers = await cluster!.run(typed);
      expectUntouched(answers, [code], names);
      if (script !== "00-assess") return;
      expect(answers.stdout).not.toMatch(/scripts\/0[1-4]-/);
      if (row.says) expect(answers.stdout).toMatch(row.says);
    });

    test("with /etc/kubernetes lost: it comes back, or is refused", async () => {
      end();
      const { last, before, after } = await bringBack(row, runs);
      if (row.lost?.refuses) {
        const [script, names] = row.lost.refuses;
        expect(last.script).toBe(script);
        return expectUntouched(last, [row.lost.code ?? 3], names);
      }
      expect({ script: last.script, exitCode: last.exitCode, said: lastWords(last) }).toMatchObject({
        script: "02-control-plane",
        exitCode: 0,
      });
      expect(notBack(before, after, row.lost?.without)).toEqual([]);
    });
  });
}

/**
 * What 00-assess calls well, parts 1 and 2 leave: as they are typed on every node, also where one of them has a reason to
 * refuse. Returns what they have changed; none where 00-assess names damage.
 */
export async function leftAlone(row: Unlike, runs: Runner): Promise<string[]> {
  using cluster = await unlike(row, runs);
  const typed = ({ typed: line }: Partial<End> = {}, script: string) => line ?? script;
  const assessed = await cluster.run(typed(row.ends?.["00-assess"], "00-assess"));
  if (assessed.exitCode !== 0) return [];
  const changed: string[] = [];
  for (const script of ["01-etcd", "02-control-plane"] as const)
    changed.push(...(await cluster.run(typed(row.ends?.[script], script))).changed);
  return changed;
}

function expectUntouched(answers: Seen, codes: number[], says?: RegExp) {
  const { changed, exitCode } = answers;
  expect({ changed, endsWell: codes.includes(exitCode), exitCode, said: lastWords(answers) }).toMatchObject({
    changed: [],
    endsWell: true,
  });
  if (says) expect(answers.stdout + answers.stderr).toMatch(says);
}

/** The last words, for who reads a red test. */
export function lastWords({ stdout, stderr }: Seen): string {
  return [stdout, stderr].map((text) => text.slice(-1500)).join("\n-----\n");
}
