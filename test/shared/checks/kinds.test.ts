/**
 * The list of checks: every one says what still works and what mends it, by a script or a place of the
 * runbook that is there.
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { checkIdOf, KINDS, SEVERITIES } from "../../../shared/checks/kinds.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { KUBECONFIGS } from "../../../shared/pki/kubeconfigs.ts";

const HOME = join(import.meta.dir, "../../..");
const textOf = (page: string) => Bun.file(join(HOME, page)).text();
const pages: Record<string, string> = {
  RUNBOOK: await textOf("RUNBOOK.md"),
  "RUNBOOK-MORE": await textOf("RUNBOOK-MORE.md"),
};

/** What is wrong with where a row sends the operator. */
function wrongWay(mend: string): string[] {
  const scripts = [...mend.matchAll(/\.\/bunw (scripts\/[\w-]+\.ts)/g)].map(([, script]) => script!);
  const lost = scripts.filter((script) => !existsSync(join(HOME, script)));
  const [named, page, quoted] = /(RUNBOOK(?:-MORE)?) (.+)$/.exec(mend) ?? [];
  const [, place] = /^"(.+)"$/.exec(quoted ?? "") ?? [];
  const isThere =
    !named ||
    pages[page!]!.split("\n").some(
      (line) => (/^#+ /.test(line) && line.endsWith(` ${place}`)) || line.startsWith(`**${place}**`),
    );
  return [...lost, ...(isThere ? [] : [named!]), ...(mend === "" ? ["nothing"] : [])];
}

test("a script, or a place of the runbook, that is not there is seen, and a place that is not quoted", () => {
  expect(wrongWay('./bunw scripts/09-none.ts, RUNBOOK "No such part"')).toEqual([
    "scripts/09-none.ts",
    'RUNBOOK "No such part"',
  ]);
  expect(wrongWay('RUNBOOK "What expires soon"')).toEqual(['RUNBOOK "What expires soon"']);
  expect(wrongWay("RUNBOOK-MORE What expires soon")).toEqual(["RUNBOOK-MORE What expires soon"]);
  expect(wrongWay('see RUNBOOK-MORE "What expires soon"')).toEqual([]);
});

test.each(Object.entries(KINDS))(
  "%s: an id for programs, a severity, what still works, and a way that is there",
  (id, kind) => {
    expect(id).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(Object.keys(SEVERITIES)).toContain(kind.severity);
    expect(kind.works).toMatch(/\w{3}/);
    expect(kind.area && kind.what).not.toBe("");
    expect(wrongWay(kind.mend)).toEqual([]);
  },
);

test("every certificate, kubeconfig and key of the tables has its check", () => {
  for (const { name } of [...CERTS, ...KUBECONFIGS, { name: "sa" }])
    expect(KINDS[checkIdOf(name)].severity).toBeTruthy();
  expect(() => checkIdOf("none")).toThrow("no check is called");
});
