/** A kit has a release's name only where it has a release's sources, byte for byte. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import {
  announcedVersion,
  headOf,
  type Release,
  releasesIn,
  sourcesSum,
  versionOf,
} from "../../tools/release/version.ts";

const folder = mkdtempSync(join(tmpdir(), "version-"));
const home = join(folder, "checkout");
afterAll(() => rmSync(folder, { recursive: true }));

const put = (path: string, text: string) => {
  mkdirSync(join(home, path, ".."), { recursive: true });
  writeFileSync(join(home, path), text);
};
const commit = (what: string) =>
  $`git add -A && git -c user.name=a -c user.email=a@example.com commit -qm ${what}`.cwd(home).quiet();
const short = async () => (await $`git rev-parse --short=9 HEAD`.cwd(home).text()).trim();
/** The words of the error. */
const failed = (ask: () => unknown) => {
  try {
    return `no error, but ${ask()}`;
  } catch (err) {
    return (err as Error).message;
  }
};
const announce = (version: string) => put("package.json", `{"version": "${version}+checkout"}\n`);

async function releaseNow(version: string) {
  const release: Release = {
    ...{ version, day: "2026-12-03", commit: headOf(home)!, sources: sourcesSum(home) },
    ...{ files: {}, rehearsed: {} },
  };
  put(`releases/${version}.json`, JSON.stringify(release));
  await commit(`Release ${version}`);
}

beforeEach(async () => {
  rmSync(home, { recursive: true, force: true });
  announce("1.1.0");
  put("CHANGELOG.md", "# Changes\n\n## 1.1.0\n\n- all\n");
  put("scripts/01-etcd.ts", "part 1\n");
  put("bun.lock", "packages\n");
  put("releases/allowed_signers", "maintainers ssh-ed25519 AAAA\n");
  put("test/a.test.ts", "a test\n");
  await $`git init -q -b main`.cwd(home);
  await commit("all of 1.1.0");
});

test("the sources that a release has recorded have its name, in each later commit that does not change them", async () => {
  await releaseNow("1.1.0");
  expect(versionOf(home)).toBe("1.1.0");
  put("test/a.test.ts", "another test\n");
  await commit("a test");
  expect(versionOf(home)).toBe("1.1.0");
});

test.each([
  ["a script is edited", "scripts/01-etcd.ts"],
  ["a file is added", "scripts/mine.ts"],
  ["a package is another one", "bun.lock"],
  ["the packer is another one", "tools/pack/pack-kit.ts"],
])("%s: another name, and another one again once it is committed", async (_, path) => {
  await releaseNow("1.1.0");
  const before = await short();
  put(path, "changed\n");
  expect(versionOf(home)).toBe(`1.1.0+1.g${before}.changed`);
  await commit("a change");
  expect(versionOf(home)).toBe(`1.1.0+2.g${await short()}`);
});

test("a file that is deleted, and one that git ignores and a kit takes, are changes that no commit has", async () => {
  put("scripts/02-control-plane.ts", "part 2\n");
  put(".gitignore", "*.html\n");
  await commit("part 2");
  const committed = `0.0.0+g${await short()}`;
  expect(versionOf(home)).toBe(committed);
  put("test/report.html", "no part of a kit\n");
  expect(versionOf(home)).toBe(committed);
  rmSync(join(home, "scripts/02-control-plane.ts"));
  expect(versionOf(home)).toBe(`${committed}.changed`);
  expect(failed(() => announcedVersion(home))).toBe("Files here are not as committed");
  put("scripts/02-control-plane.ts", "part 2\n");
  put("scripts/report.html", "a page that lies there\n");
  expect(versionOf(home)).toBe(`${committed}.changed`);
});

test("without any record, without git, and in a shallow clone no release's name is given away", async () => {
  expect(versionOf(home)).toBe(`0.0.0+g${await short()}`);
  await releaseNow("1.1.0");
  put("scripts/01-etcd.ts", "part 1, edited\n");
  await commit("an edit");
  const [shallow, bare] = [join(folder, "shallow"), join(folder, "bare")];
  await $`git clone -q --depth 1 file://${home} ${shallow}`;
  expect(versionOf(shallow)).toBe(`1.1.0+g${await short()}`);
  cpSync(home, bare, { recursive: true });
  rmSync(join(bare, ".git"), { recursive: true });
  expect(versionOf(bare)).toBe("1.1.0+no-git");
  cpSync(join(folder, "checkout/releases"), join(bare, "releases"), { recursive: true });
  writeFileSync(join(bare, "scripts/01-etcd.ts"), "part 1\n");
  expect(versionOf(bare)).toBe("1.1.0");
});

test("the newest release is the one with the highest numbers; a record under another name is refused", async () => {
  for (const version of ["1.9.0", "1.10.0", "1.2.0"]) await releaseNow(version);
  expect(releasesIn(home).map(({ version }) => version)).toEqual(["1.2.0", "1.9.0", "1.10.0"]);
  put("releases/1.11.0.json", readFileSync(join(home, "releases/1.10.0.json"), "utf8"));
  expect(failed(() => releasesIn(home))).toContain('records the version "1.10.0"');
});

test("a commit becomes a release only as it is committed, with a new number, its section in CHANGELOG.md, and a public key", async () => {
  expect(announcedVersion(home)).toBe("1.1.0");
  appendFileSync(join(home, "scripts/01-etcd.ts"), "edited\n");
  expect(failed(() => announcedVersion(home))).toBe("Files here are not as committed");
  await commit("an edit");
  await releaseNow("1.1.0");
  expect(failed(() => announcedVersion(home))).toBe(
    'package.json announces "1.1.0", and "1.1.0" is released',
  );
  announce("1.2.0");
  await commit("1.2.0 is next");
  expect(failed(() => announcedVersion(home))).toBe('The first section of CHANGELOG.md is not "## 1.2.0"');
  put("CHANGELOG.md", "# Changes\n\n## 1.2.0\n\n- more\n");
  rmSync(join(home, "releases/allowed_signers"));
  await commit("no public key");
  expect(failed(() => announcedVersion(home))).toBe(
    "releases/allowed_signers does not exist: nobody could prove the sums of this release",
  );
});
