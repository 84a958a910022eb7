/** The files that a kit is packed from. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/**
 * The operator's files, unchanged from the checkout but for the version in package.json. tsconfig.json is among them:
 * without one, Bun takes that of a folder above, and everybody may write above a kit.
 */
export const CONTENTS = [
  ...["bunw", "bunfig.toml", "tsconfig.json", "package.json", "scripts", "shared", "docs"],
  ...["RUNBOOK.md", "RUNBOOK-MORE.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
  "SECURITY.md",
  "licences",
];

/** These decide about the rest of a kit: the packages, the nodes' Bun, and the packer. */
const DECIDES = ["bun.lock", "tools/pack", "tools/release"];

/** Paths below `home`, of files alone; links are resolved, as a kit has none. */
export function contentsOf(home: string): string[] {
  return CONTENTS.filter((item) => existsSync(join(home, item))).flatMap((item) =>
    filesBelow(home, item),
  );
}

/** Paths of all files that a kit depends on, sorted. */
export function sourcesOf(home: string): string[] {
  const others = DECIDES.filter((item) => existsSync(join(home, item)));
  return [...contentsOf(home), ...others.flatMap((item) => filesBelow(home, item))].sort();
}

function filesBelow(home: string, path: string): string[] {
  if (statSync(join(home, path)).isFile()) return [path];
  return readdirSync(join(home, path)).flatMap((name) => filesBelow(home, `${path}/${name}`));
}
