/** A release: one version in all that says one, and notes that somebody reads. */
import { expect, test } from "bun:test";
import { basename, join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
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

test("the file that `npm run pack` writes is named by the version", async () => {
  expect(await helpOf(PACKER)).toContain(`(default kube-pki-repair-${version}.tar.gz)`);
});

test("CHANGELOG.md has this version on top, but for what is not released yet, and is short enough to be read", async () => {
  const lines = (await textOf("CHANGELOG.md")).trimEnd().split("\n");
  const heads = lines.filter((line) => line.startsWith("## ") && line !== "## Unreleased");
  expect(heads[0]).toBe(`## ${version}`);
  expect(lines.length).toBeLessThanOrEqual(150);
  expect(lines.filter((line) => line.length > 200)).toEqual([]);
});

test("each page that names a version names this one, and CONTRIBUTING.md says how a release is taken and checked", async () => {
  const contributing = await textOf("CONTRIBUTING.md");
  expect(contributing.match(/kube-pki-repair[ -]\d+\.\d+\.\d+/g)).not.toBeNull();
  for (const page of [contributing, await textOf("README.md")])
    for (const [, one] of page.matchAll(/kube-pki-repair[ -](\d+\.\d+\.\d+)/g)) expect(one).toBe(version);
  expect(contributing).toContain("SHA256");
});
