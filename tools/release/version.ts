/**
 * The version that sources have a right to: that of a release only where they are its sources, byte for byte. The records
 * of releases are in the repository itself, so that they hold where tags do not travel.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../shared/fail.ts";
import { sha256Of } from "../../shared/files/sha256.ts";
import { KIT_SOURCES, sourcesOf } from "../pack/contents.ts";

/** releases/VERSION.json */
export interface Release {
  /** "1.1.0" */
  version: string;
  /** "2026-12-31" */
  day: string;
  /** In full: the commit whose sources these are. The record is in a later one. */
  commit: string;
  /** sourcesSum() of it. */
  sources: string;
  /** Name of a published file → its SHA256, in hex. */
  files: Record<string, string>;
  /** Rehearsals on this commit or before it: the name of the check → its row. */
  rehearsed: Record<string, { at: string; commit: string; passed: number; failed: number }>;
}

/** "1.2.10"; nothing more: this word goes into names of files. */
const PLAIN = /^\d+\.\d+\.\d+$/;

/** Oldest first, by their numbers. Errors: Fail where a record is none, or has another name than its version. */
export function releasesIn(home: string): Release[] {
  const folder = join(home, "releases");
  const names = existsSync(folder)
    ? readdirSync(folder).filter((name) => name.endsWith(".json"))
    : [];
  return names
    .map((name) => recordIn(join(folder, name), name.replace(/\.json$/, "")))
    .sort((a, b) => Bun.semver.order(a.version, b.version));
}

function recordIn(file: string, version: string): Release {
  const record = JSON.parse(readFileSync(file, "utf8")) as Release;
  if (PLAIN.test(version) && record.version === version) return record;
  throw new Fail(`"${file}" records the version "${record.version}"`, {
    hint: "name a record by its version: releases/1.1.0.json",
  });
}

/** SHA256 of the list of all files that a kit depends on, each with its own SHA256: as sha256sum prints it. */
export function sourcesSum(home: string): string {
  const lines = sourcesOf(home).map(
    (path) => `${sha256Of(readFileSync(join(home, path)))}  ${path}\n`,
  );
  return sha256Of(Buffer.from(lines.join("")));
}

/**
 * "1.1.0" where these are the sources of that release; else "1.1.0+12.g3663da779", that of the newest release, the commits
 * since then and the commit, with ".changed" behind it where files are not as committed. "1.1.0+no-git" where git knows
 * nothing of this folder.
 */
export function versionOf(home: string): string {
  const releases = releasesIn(home);
  const sum = sourcesSum(home);
  const own = releases.find(({ sources }) => sources === sum);
  if (own) return own.version;
  const { version, commit } = releases.at(-1) ?? { version: "0.0.0", commit: "" };
  return `${version}+${sinceRelease(home, commit)}`;
}

/** The public keys of those who sign the sums, as `ssh-keygen -Y verify -f` takes them. */
const SIGNERS = "releases/allowed_signers";

/** Errors: Fail where this commit cannot become the release that package.json announces. */
export function announcedVersion(home: string): string {
  const { version: own } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
  const version = String(own).replace("+checkout", "");
  const releases = releasesIn(home);
  const last = releases.at(-1)?.version ?? "0.0.0";
  const changes = readFileSync(join(home, "CHANGELOG.md"), "utf8");
  const refused: [boolean, string, string][] = [
    [!isAsCommitted(home), "Files here are not as committed", "commit them: git status"],
    [
      Bun.semver.order(version, last) <= 0,
      `package.json announces "${version}", and "${last}" is released`,
      'write the new version into package.json: "version": "1.2.0+checkout"',
    ],
    [
      /^## (.+)$/m.exec(changes)?.[1] !== version,
      `The first section of CHANGELOG.md is not "## ${version}"`,
      `give the section of this release its name: ## ${version}`,
    ],
    [
      !existsSync(join(home, SIGNERS)),
      `${SIGNERS} does not exist: nobody could prove the sums of this release`,
      `write the maintainers' public key there, and commit it: echo "maintainers $(cut -d' ' -f1,2 KEY.pub)" > ${SIGNERS}`,
    ],
  ];
  const [, what, hint] = refused.find(([isSo]) => isSo) ?? [];
  if (what !== undefined) throw new Fail(what, { hint: hint! });
  return version;
}

/** The commit in full; undefined without git. */
export function headOf(home: string): string | undefined {
  return git(home, "rev-parse", "HEAD");
}

/** Whether all that a kit depends on is as in the commit. A file that git ignores goes into a kit, too. */
function isAsCommitted(home: string): boolean {
  return git(home, "status", "--porcelain", "--ignored", "--", ...KIT_SOURCES) === "";
}

function sinceRelease(home: string, commit: string): string {
  const head = git(home, "rev-parse", "--short=9", "HEAD");
  if (head === undefined) return "no-git";
  // a shallow clone does not know how many came since
  const count = commit === "" ? undefined : git(home, "rev-list", "--count", `${commit}..HEAD`);
  const changed = isAsCommitted(home) ? [] : ["changed"];
  return [...(count === undefined ? [] : [count]), `g${head}`, ...changed].join(".");
}

/** The answer of git about this very folder; undefined where git knows nothing of it. */
function git(home: string, ...words: string[]): string | undefined {
  if (!existsSync(join(home, ".git"))) return undefined;
  try {
    const { exitCode, stdout } = Bun.spawnSync(["git", "-C", home, ...words], { stderr: "ignore" });
    return exitCode === 0 ? stdout.toString().trim() : undefined;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw err;
  }
}
