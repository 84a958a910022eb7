/**
 * The Bun that a kit brings to the nodes, whatever machine it is packed on: from the registry that npm is set
 * up for, checked against the sums below, and cached. The versions are bunw's.
 *
 * x64 is the build that needs no AVX2, so that one Bun runs on all x86-64. It costs nothing: in 1.4.5 the
 * registry's build "with AVX2" is the same, byte for byte. Another version's sums: `npm view
 * @oven/NAME@VERSION dist.integrity`.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { tryFile } from "../files/root.ts";
import { freshPartial } from "../files/write-steps.ts";
import { readTar } from "../hand-over/tar.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";

export const BUN_VERSION = "1.4.5";

/** Keyed by bunw's name of a node: the package in the registry, and its sum (sha512). */
// biome-ignore format: a table
export const NODES_BUN = {
  "x64":        { name: "@oven/bun-linux-x64-baseline",      sum: "s8yMwYcFnnrA178gji0gZbkE2WVDej/Ti1x770oPfihxyRxSMNhGhiAQNXV53aDeraZxksdvKV/RAdQBCd0qPA==" },
  "arm64":      { name: "@oven/bun-linux-aarch64",           sum: "4BXmsSKnjOrlGWqZV4x/oWa7AVoR+B6lCXddMzOAXBIm3t50eslg9wb66gmtW1AamEQ1l1CDvmmruysEhqOWMg==" },
  "x64-musl":   { name: "@oven/bun-linux-x64-musl-baseline", sum: "cWJhU8h0+MiUgpSt99sQhjxLIIosKEcKYdtKddohokUvAuN6jKOy7g7+QDTZTXtwHxz93wL3BX+L6wXVPDUH3A==" },
  "arm64-musl": { name: "@oven/bun-linux-aarch64-musl",      sum: "XCNc+WvvMAdNNb+OWTogpy+N9wm62fkVeEVLb6how0RZhW5LPi6c7BlkeVCuWps7XjEl2saFpHFa20/1E+PAHg==" },
} as const;

export type Arch = keyof typeof NODES_BUN;

/** The Bun for such a node. Errors: Fail if it cannot be fetched, or has another sum. */
export async function nodesBun(arch: Arch): Promise<Uint8Array> {
  const { name } = NODES_BUN[arch];
  const cached = join(cache(), `${name.replace("@oven/", "")}.tgz`);
  let tarball = tryFile("read", cached, () => readFileSync(cached));
  if (!tarball || !isPinned(arch, tarball)) tarball = await fetchInto(cached, arch);
  const bun = readTar(Bun.gunzipSync(tarball)).find((file) => file.name === "package/bin/bun");
  if (!bun)
    throw new Fail(`There is no bin/bun in "${cached}"`, { hint: shell`rm ${cached} and pack again` });
  return bun.bytes;
}

/** bunw's folder, so that there is only one to keep or delete. */
function cache() {
  const { KUBE_PKI_REPAIR_CACHE, XDG_CACHE_HOME } = process.env;
  const ours = KUBE_PKI_REPAIR_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "kube-pki-repair");
  return join(ours, `nodes-bun-${BUN_VERSION}`);
}

/** Written beside its place and renamed, as several may fetch at the same time. */
async function fetchInto(kept: string, arch: Arch): Promise<Buffer<ArrayBuffer>> {
  const { name } = NODES_BUN[arch];
  const folder = fetchFolder(kept);
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.on("exit", remove);
  try {
    say(`fetching ${name} ${BUN_VERSION} by npm, about 50 MB, into ${cache()}`);
    const file = join(folder, await npmPack(`${name}@${BUN_VERSION}`, folder));
    const tarball = readFileSync(file);
    if (!isPinned(arch, tarball))
      throw new Fail(
        `npm brought another file as "${name}@${BUN_VERSION}" than the pinned one, by its sha512`,
        {
          hint: "see whether that registry is to be trusted: npm config get registry. Ask another one: npm_config_registry=URL npm run pack",
        },
      );
    renameSync(file, kept);
    return tarball;
  } finally {
    remove();
    process.off("exit", remove);
  }
}

/** Errors: Fail if the cache is another user's, or on a full disk. */
function fetchFolder(kept: string): string {
  const make = () => {
    mkdirSync(dirname(kept), { recursive: true });
    const folder = freshPartial(kept);
    mkdirSync(folder);
    return folder;
  };
  const made = attempt(() => tryFile("write", kept, make, true)!);
  if (!(made instanceof Fail)) return made;
  throw new Fail(made.message, {
    hint: shell`look at it: ls -ld ${cache()}. Or use another cache: KUBE_PKI_REPAIR_CACHE=FOLDER npm run pack`,
    cause: made,
  });
}

/**
 * Unlike `npm install`, it takes packages for other machines, too, and runs nothing of theirs. Returns the
 * file's name.
 */
async function npmPack(spec: string, folder: string): Promise<string> {
  const npm = Bun.which("npm");
  if (!npm)
    throw new Fail(`npm, which fetches "${spec}", is missing here`, {
      hint: "install npm, or pack on a machine that has it",
    });
  const streams = { stdin: "ignore", stdout: "pipe", stderr: "pipe" } as const;
  const child = Bun.spawn([npm, "pack", "--silent", spec], { cwd: folder, ...streams });
  process.once("exit", () => child.kill());
  const texts = [child.stdout, child.stderr].map((stream) => new Response(stream).text());
  const [stdout = "", stderr = ""] = await Promise.all(texts);
  const exitCode = await child.exited;
  const file = stdout.trim().split("\n").at(-1)!;
  if (exitCode === 0 && existsSync(join(folder, file)) && file !== "") return file;
  throw new Fail(`npm cannot fetch "${spec}", exit code ${exitCode}: ${stderr.trim().split("\n").at(-1)}`, {
    hint: `npm pack ${spec} says more. No network here: pack on another machine, and copy "${cache()}"`,
  });
}

function isPinned(arch: Arch, bytes: Uint8Array) {
  return createHash("sha512").update(bytes).digest("base64") === NODES_BUN[arch].sum;
}
