/** The files that a kit is packed from. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/**
 * The operator's files, unchanged from the checkout but for the version in package.json. tsconfig.json is among them:
 * without one, Bun takes that of a folder above, and everybody may write above a kit.
 */
const CONTENTS = [
  ...["bunw", "bunfig.toml", "tsconfig.json", "package.json", "scripts", "shared", "docs"],
  ...["RUNBOOK.md", "RUNBOOK-MORE.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
  "SECURITY.md",
  "licences",
];

/** These decide about the rest of a kit: the packages, the nodes' Bun, and the packer. */
const DECIDES = ["bun.lock", "tools/pack", "tools/release"];

/** All of them: files and folders. */
export const KIT_SOURCES = [...CONTENTS, ...DECIDES];

/** Paths below `home`, of files alone; links are resolved, as a kit has none. */
export function contentsOf(home: string): string[] {
  return filesOf(home, CONTENTS);
}

/** Paths of all files that a kit depends on, sorted. */
export function sourcesOf(home: string): string[] {
  return filesOf(home, KIT_SOURCES).sort();
}

function filesOf(home: string, items: readonly string[]): string[] {
  return items
    .filter((item) => existsSync(join(home, item)))
    .flatMap((item) => filesBelow(home, item));
}

function filesBelow(home: string, path: string): string[] {
  if (statSync(join(home, path)).isFile()) return [path];
  return readdirSync(join(home, path)).flatMap((name) => filesBelow(home, `${path}/${name}`));
}
