#!/usr/bin/env bun
/**
 * Packs the kit that is copied to the nodes: their Bun, the scripts, each module of a package that
 * they import as one file, RUNBOOK.md, and the sums. Runs on any laptop: the kit does not depend on
 * it. Same sources: same bytes. Needs the network once, for the nodes' Bun.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { Fail } from "../../shared/fail.ts";
import { parseOptions, refuseOthers } from "../../shared/files/operator-files.ts";
import { sha256Of } from "../../shared/files/sha256.ts";
import { answerText, endOnSignal, run, say, start } from "../../shared/run.ts";
import { shell } from "../../shared/shell-line.ts";
import { versionOf } from "../release/version.ts";
import { contentsOf } from "./contents.ts";
import {
  type Arch,
  bundledPackages,
  NODES_BUN,
  nodesBun,
  refuseKitPlace,
  SUMS,
  writeKitFolder,
  writeKitTarball,
} from "./write-kit.ts";

const HOME = resolve(import.meta.dir, "../..");

async function main() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  start("pack-kit");
  const version = versionOf(HOME);
  const named = values.out ?? `kube-pki-repair-${version}.tar.gz`;
  const [out, archs] = [refuseOthers(resolve(named), "written"), archsOf(values.arch)];
  refuseKitPlace(out);
  endOnSignal();
  await (isTarball(out) ? packTarball : packFolder)(out, archs, version);
  say(`${named}: ${size(out)} MB, for ${archs.join(", ")}`);
  if (!isTarball(out)) return;
  say(`SHA256 ${sha256Of(readFileSync(out))}: the same sources give the same file, on any machine`);
  answerText(next(named));
}

function isTarball(out: string): boolean {
  return /\.(tar\.gz|tgz)$/.test(out);
}

/** In the order of an emergency: stopping the kubelet keeps the old keys alive. */
function next(tarball: string): string {
  return [
    "next, if anything was deleted: on each control plane node, as root, before all else",
    ...HOLD,
    "then bring it to each node",
    `ssh root@NODE '${UNPACK}' < ${shell`${tarball}`}`,
    "then, on a control plane node, type one command: it asks, and you decide by numbers",
    `cd ${KIT_FOLDER} && ./bunw scripts/repair.ts`,
    "or print these lines, and type them yourself",
    `cd ${KIT_FOLDER} && ./bunw scripts/plan.ts`,
  ].join("\n");
}

function archsOf(words: string): Arch[] {
  const wrong = words.split(",").find((word) => !Object.hasOwn(NODES_BUN, word));
  if (wrong === undefined) return [...new Set(words.split(","))] as Arch[];
  throw new Fail(`There is no kit for "${wrong}"`, {
    hint: `npm run pack -- --arch ${Object.keys(NODES_BUN).join(",")}, or some of these`,
  });
}

export async function packTarball(out: string, archs: Arch[], version = versionOf(HOME)) {
  await writeKitTarball(out, await kitFiles(archs, version));
}

export async function packFolder(out: string, archs: Arch[], version = versionOf(HOME)) {
  writeKitFolder(out, await kitFiles(archs, version));
}

/** All files of a node, by their path in the kit, in order. */
export async function kitFiles(archs: Arch[], version: string): Promise<Map<string, Uint8Array>> {
  const files = new Map(
    contentsOf(HOME).map((name) => [name, readFileSync(join(HOME, name)) as Uint8Array]),
  );
  const sources = [...files].flatMap(([name, bytes]) =>
    name.endsWith(".ts") ? Buffer.from(bytes).toString() : [],
  );
  const direct = Object.keys(packageJson.dependencies);
  for (const file of await bundledPackages(HOME, sources, direct)) files.set(...file);
  for (const arch of archs) files.set(`bun/${arch}`, await nodesBun(arch));
  files.set("package.json", versioned(files.get("package.json")!, version));
  files.set("START-HERE.txt", Buffer.from(START_HERE));
  const sorted = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
  const sums = sorted.map(([name, bytes]) => `${sha256Of(bytes)}  ${name}\n`);
  return new Map([...sorted, [SUMS, Buffer.from(sums.join(""))]]);
}

/** package.json, with the version of these sources: the scripts take theirs from it. */
function versioned(bytes: Uint8Array, version: string): Uint8Array {
  const json = JSON.parse(Buffer.from(bytes).toString()) as object;
  return Buffer.from(`${JSON.stringify({ ...json, version }, null, 2)}\n`);
}

function size(path: string): number {
  const paths = statSync(path).isFile()
    ? [path]
    : readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => join(path, name));
  return Math.round(paths.reduce((total, file) => total + statSync(file).size, 0) / 1e6);
}

/** Below /run, where only root can make folders. */
export const KIT_FOLDER = "/run/kube-pki-repair";

/**
 * Unpacks the kit from stdin on a node, as root, also over an earlier one. It is a memory file
 * system of its own, mounted so that programs may run in it: /run and /dev/shm are memory, too, but
 * hardened hosts (CIS) mount them noexec. The folder below it is made in /run: no disk block is
 * written. It has mode 0700 and is root's from the first moment, and so is the mount. Anything else
 * is shown and refused. Also works with busybox: its sha256sum knows no --quiet.
 */
export const UNPACK = [
  `D=${KIT_FOLDER}`,
  'mkdir -m 700 $D 2>/dev/null || [ "$(stat -c "%u %a %F" $D)" = "0 700 directory" ] || ' +
    "{ ls -ld $D; exit 1; }",
  'grep -q " $D tmpfs " /proc/mounts || ' +
    "mount -t tmpfs -o mode=0700,size=1g,nosuid,nodev,exec tmpfs $D || exit 1",
  "cd $D && rm -rf bun docs scripts shared node_modules && tar -xzf - && " +
    '! sha256sum -c SHA256SUMS 2>&1 | grep -v ": OK$"',
].join("\n  ");

/** Most clusters need only these; kits for nodes with musl are made on request. */
const DEFAULT_ARCHS: Arch[] = ["x64", "arm64"];

const USAGE = `Usage: npm run pack -- [--out FILE.tar.gz | --out FOLDER] [--arch ARCH,…]

  --out PLACE   a tarball if it ends in .tar.gz or .tgz, otherwise a folder (new or empty)
                (default kube-pki-repair-VERSION.tar.gz). VERSION is a release's, such as 1.0.0,
                only where these are its sources; else 1.0.0+12.g3663da779.
  --arch ARCH   the nodes' machines: ${Object.keys(NODES_BUN).join(", ")}
                (default ${DEFAULT_ARCHS.join(",")}); each takes about 50 MB,
                and ./bunw chooses on the node

Copy it to a node:  ssh root@NODE '${UNPACK}' < FILE.tar.gz
Exit codes: 0 packed, 1 stopped (see the hint), 3 refused: others decide what is at PLACE,
            64 a word of the command line is wrong, 130 ended by a signal`;

const OPTIONS = {
  out: {
    type: "string",
    file: "written",
  },
  arch: { type: "string", default: DEFAULT_ARCHS.join(",") },
} as const;

/** The same lines as in part 0 of RUNBOOK.md, and in course.ts, which a laptop does not need. */
const HOLD = [
  "systemctl stop kubelet",
  "for p in $(pgrep -x kube-controller); do " +
    'grep -qE "^[^/]*/(u[^s]|[^u]).*pod[0-9a-f]{32}" /proc/$p/cgroup && ' +
    "kill -STOP $p; done || true",
];

/** As the table of README.md begins: by what people see. */
const START_HERE = `\
# "certificate has expired", "connection refused" on :6443, or /etc/kubernetes is gone?
# See whether \`date\` is right. Was anything deleted? As root, on each control plane node:
${HOLD.join("\n")}
sha256sum -c SHA256SUMS | grep -v ": OK$"  # in this folder; no output: the kit is complete
./bunw scripts/plan.ts          # on a control plane node, reads only: all lines of the repair
./bunw scripts/repair.ts        # there, or from a machine beside with root@NODE: it types them
./bunw scripts/00-assess.ts     # on any node, reads only: what is damaged, and what comes next
less RUNBOOK.md                 # the recovery by hand; RUNBOOK-MORE.md: rare clusters, many nodes
`;

if (import.meta.main) await run(main);
