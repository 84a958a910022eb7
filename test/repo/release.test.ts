/** A release: one version in all that says one, and notes that somebody reads. */
import { expect, test } from "bun:test";
import { basename, join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { releasesIn } from "../../tools/release/version.ts";
import { typeHere } from "../pretend/typed-here.ts";
import { helpOf, PACKER, SCRIPTS } from "./help.ts";

const HOME = join(import.meta.dir, "../..");
const { version } = packageJson;
const textOf = (path: string) => Bun.file(join(HOME, path)).text();

test.each([...SCRIPTS, PACKER].map((path) => basename(path, ".ts")))(
  "%s --version says the kit's, whatever else is typed",
  async (script) => {
    const said = { exitCode: 0, stdout: `kube-pki-repair ${version}\n`, stderr: "" };
    for (const words of [
      "--version",
      "--version no-such-word --no-such-option",
      "--no-such-option --version",
    ])
      expect(await typeHere(`${script} ${words}`)).toEqual(said);
  },
);

test.each(["01-etcd --endpoint --version", "01-etcd -- --version", "01-etcd --versions"])(
  "%s asks for no version: the line is refused",
  async (line) => {
    const { exitCode, stdout, stderr } = await typeHere(line);
    expect([exitCode, stdout]).toEqual([64, ""]);
    expect(stderr).toContain("\nerror: ");
  },
);

test("the file that `npm run pack` writes is named by the version of its sources", async () => {
  expect(await helpOf(PACKER)).toContain("(default kube-pki-repair-VERSION.tar.gz");
});

test("CHANGELOG.md has the releases, above them what is not released, or what package.json announces, and is short", async () => {
  const lines = (await textOf("CHANGELOG.md")).trimEnd().split("\n");
  const heads = lines.filter((line) => line.startsWith("## "));
  const released = releasesIn(HOME).map((release) => `## ${release.version}`);
  const announced = `## ${version.replace("+checkout", "")}`;
  const next = ["## Unreleased", announced].filter((head) => !released.includes(head));
  expect(next.some((head) => head === heads[0]) || heads[0] === released.at(-1)).toBe(true);
  expect(heads.filter((head) => !next.includes(head))).toEqual(released.toReversed());
  expect(lines.length).toBeLessThanOrEqual(150);
  expect(lines.filter((line) => line.length > 200)).toEqual([]);
});

test("no page names a kit by the number of a release, which would be another one soon", async () => {
  for (const page of ["README.md", "CONTRIBUTING.md", "RUNBOOK-MORE.md"])
    expect([page, (await textOf(page)).match(/kube-pki-repair[ -]v?\d+\.\d+\.\d+/g)]).toEqual([page, null]);
});
