/**
 * The kit that goes to the nodes: the file that the operator names, the one that a checkout packs, or this very kit,
 * packed again from its own list of files.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Fail } from "../fail.ts";
import { sha256Of } from "../files/sha256.ts";
import { kitProgram } from "../plan/kit-program.ts";
import { readRunbook } from "../plan/runbook.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";

/** The folder of this checkout, or of this kit. */
export const HOME = resolve(import.meta.dir, "../..");

const SUMS = "SHA256SUMS";
const PACKER = "tools/pack/pack-kit.ts";

export interface Kit {
  /** The whole tar.gz file. */
  path: string;
  /** sha256 of its SHA256SUMS, which names each of its files. */
  sum: string;
  /** The program that unpacks the kit from stdin on a node, as root: RUNBOOK.md's own. */
  unpack: string;
}

/** `dir`: a private folder of this run. Errors: Fail where there is no kit, or a file of it is not as it was packed. */
export async function kitFile(named: string | undefined, dir: string, runbook: string): Promise<Kit> {
  const path = named === undefined ? await packed(dir) : resolve(named);
  if (!existsSync(path))
    throw new Fail(`There is no kit at "${path}"`, { hint: "npm run pack makes one: kit.tar.gz" });
  const { exitCode, stdout } = Bun.spawnSync(["tar", "-xzOf", path, SUMS]);
  if (exitCode !== 0 || stdout.length === 0)
    throw new Fail(`"${path}" is no kit: it has no ${SUMS}`, { hint: "npm run pack makes one: kit.tar.gz" });
  return { path, sum: sha256Of(stdout), unpack: unpackIn(runbook) };
}

function unpackIn(runbook: string): string {
  const line = readRunbook(runbook)
    .blocks.find(({ sshTo }) => sshTo)
    ?.commands.join("\n  ");
  return kitProgram(line ?? "").program;
}

/** The line that repairs from a machine of the operator's. */
export function repairLine(destination: string): string {
  return isCheckout() ? `${NPM} ${shell`${destination}`}` : shell`./bunw scripts/repair.ts ${destination}`;
}

const NPM = "npm run repair --";

/** The program that packs a kit does not travel to the nodes. */
function isCheckout(): boolean {
  return existsSync(join(HOME, PACKER));
}

async function packed(dir: string): Promise<string> {
  const path = join(dir, "kit.tar.gz");
  const command = isCheckout() ? [process.execPath, PACKER, "--out", path] : packItself(path);
  say(isCheckout() ? "packs the kit, which takes some seconds" : "packs this kit for the other nodes");
  const { exitCode, stderr } = Bun.spawnSync(command, { cwd: HOME, stdout: "ignore", stderr: "pipe" });
  if (exitCode === 0) return path;
  throw new Fail(`The kit cannot be packed: ${stderr.toString().trim().split("\n").at(-1)}`, {
    hint: isCheckout() ? "npm run pack shows why" : "unpack the kit again, and run the same line there",
  });
}

/** Only what its list names, and only if it is as the list says. */
function packItself(path: string): string[] {
  const check = Bun.spawnSync(["sha256sum", "-c", SUMS], { cwd: HOME, stdout: "pipe", stderr: "ignore" });
  const bad = check.stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "" && !line.endsWith(": OK"));
  if (check.exitCode !== 0)
    throw new Fail(`Files of this kit are not as they were packed: ${bad.slice(0, 5).join("; ")}`, {
      hint: 'unpack the kit again, or make its list anew after an edit: RUNBOOK-MORE.md, "If you must edit"',
    });
  const names = readFileSync(join(HOME, SUMS), "utf8").match(/(?<=^[0-9a-f]{64} {2}).+$/gm) ?? [];
  return ["tar", "-czf", path, "--owner=0", "--group=0", "--", ...names, SUMS];
}
