/**
 * Writes a kit as a whole, or not at all. A run that is cut off loses no file that was there before.
 *
 * Each module of npm's packages that a script imports is one file there. Loading their hundreds of files took a
 * third of the processor time of a script's start; and there is less to unpack, and to look through before each
 * start. Our own files stay as they are: people edit those.
 *
 * The Bun that it brings to the nodes, whatever machine it is packed on, is from the registry that npm is set up for,
 * checked against the sums below, and cached. The versions are bunw's.
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { attempt, Fail } from "../../shared/fail.ts";
import { refuseUnwritable } from "../../shared/files/file-system.ts";
import { freshPartial } from "../../shared/files/files.ts";
import { writeTyped } from "../../shared/files/operator-files.ts";
import { tryFile } from "../../shared/files/root.ts";
import { readTar, type TarFile, writeTar } from "../../shared/hand-over/tar.ts";
import { say } from "../../shared/run.ts";
import { shell } from "../../shared/shell-line.ts";
import { foldersOf, type KitFiles, kitEntries, modeInKit } from "./kit-entries.ts";

/** The last file that is put in place: if it exists, the kit is whole. */
export const SUMS = "SHA256SUMS";

/** Asked first, as fetching and compressing take long. Errors: Fail if `out` cannot be written. */
export function refuseKitPlace(out: string) {
  const refused = attempt(() => refuseUnwritable([dirname(out)]));
  if (!(refused instanceof Fail)) return;
  throw new Fail(refused.message, {
    hint: "name a place that you can write to: npm run pack -- --out FOLDER/kit.tar.gz",
    cause: refused,
  });
}

/** Our own tar: macOS has another one than Linux, and a Windows disk below WSL has no modes. */
export async function writeKitTarball(out: string, files: KitFiles) {
  const top: TarFile = { name: "./", mode: 0o700, bytes: new Uint8Array() };
  const entries = [top, ...kitEntries(files, "")];
  say("compressing it: some seconds");
  // lets a signal that came meanwhile be handled
  await setImmediate();
  const tar = Buffer.from(writeTar(entries, new Date(0)));
  const tarball = Bun.gzipSync(tar, { level: 6, library: "libdeflate" });
  await setImmediate();
  writeTyped(out, tarball, { mode: 0o644 });
}

/** Errors: Fail if the folder has something in it. */
export function writeKitFolder(out: string, files: KitFiles) {
  tryFile("write", out, () => fillFolder(out, files), true);
}

/** Made in a folder within: `out` may be a mount, which no rename replaces. */
function fillFolder(out: string, files: KitFiles) {
  const made = mkdirSync(out, { recursive: true });
  const partial = freshPartial(join(out, "kit"));
  if (readdirSync(out).length > 0)
    throw new Fail(`The folder ${out} is not empty`, {
      hint: "name another folder with --out, or empty this one",
    });
  try {
    fillPartial(partial, files);
    const names = readdirSync(partial).filter((name) => name !== SUMS);
    for (const name of [...names, SUMS]) renameSync(join(partial, name), join(out, name));
    chmodSync(out, 0o700);
  } catch (err) {
    if (made) rmSync(made, { recursive: true });
    throw err;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function fillPartial(partial: string, files: KitFiles) {
  for (const [name, bytes] of files) {
    for (const folder of ["", ...foldersOf(name)])
      mkdirSync(join(partial, folder), { recursive: true });
    writeFileSync(join(partial, name), bytes);
    chmodSync(join(partial, name), modeInKit(name));
  }
  for (const path of readdirSync(partial, { recursive: true, encoding: "utf8" }))
    if (statSync(join(partial, path)).isDirectory()) chmodSync(join(partial, path), 0o755);
}

interface Manifest {
  version: string;
  license?: string;
  dependencies?: Record<string, string>;
}

/**
 * `home`: the checkout. `sources`: the texts that import them; `direct`: names of the packages that they may
 * import. Errors: Fail if a package is not installed, or cannot be bundled.
 */
export async function bundledPackages(
  home: string,
  sources: readonly string[],
  direct: readonly string[],
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const imported = importsOf(sources);
  for (const [name, { version, license }] of withDependencies(home, direct)) {
    // "zx/core" of zx
    const modules = imported.filter((path) => path === name || path.startsWith(`${name}/`));
    const folder = join("node_modules", name);
    // a license has to stay with its package
    for (const file of readdirSync(join(home, folder)))
      if (/^(licen[cs]e|notice|copying)/i.test(file))
        files.set(join(folder, file), readFileSync(join(home, folder, file)));
    if (modules.length === 0) continue;
    const exports = Object.fromEntries(
      modules.map((module) => [`.${module.slice(name.length)}`, fileIn(name, module)]),
    );
    const manifest = { name, version, license, type: "module", exports };
    files.set(join(folder, "package.json"), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
    for (const module of modules)
      files.set(join(folder, fileIn(name, module)), await bundled(home, module));
  }
  return files;
}

/** These packages, and all packages that they need. */
function withDependencies(
  home: string,
  names: readonly string[],
  seen = new Map<string, Manifest>(),
) {
  for (const name of names.filter((name) => !seen.has(name))) {
    const file = join(home, "node_modules", name, "package.json");
    if (!existsSync(file))
      throw new Fail(`The package ${name} is not installed`, {
        hint: "./bunw install --frozen-lockfile",
      });
    const manifest = JSON.parse(readFileSync(file, "utf8")) as Manifest;
    seen.set(name, manifest);
    withDependencies(home, Object.keys(manifest.dependencies ?? {}), seen);
  }
  return seen;
}

/** Sorted; without modules that only types come from. */
function importsOf(sources: readonly string[]): string[] {
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  const imported = sources.flatMap((text) =>
    transpiler.scanImports(text.replace(/^#!.*/, "")).map(({ path }) => path),
  );
  return [...new Set(imported)].sort();
}

/** "./core.js" of "zx/core", "./index.js" of the package itself. */
function fileIn(name: string, module: string): string {
  return module === name ? "./index.js" : `.${module.slice(name.length).replace(/\.js$/, "")}.js`;
}

/** Names stay, as they are in stacks and messages. */
async function bundled(home: string, module: string): Promise<Uint8Array> {
  const { success, outputs, logs } = await Bun.build({
    entrypoints: [Bun.resolveSync(module, home)],
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
    throw: false,
  });
  if (success && outputs[0]) return new Uint8Array(await outputs[0].arrayBuffer());
  throw new Fail(`The package module "${module}" cannot be bundled: ${logs.join("; ")}`, {
    hint: "rm -r node_modules, then ./bunw install --frozen-lockfile",
  });
}

export const BUN_VERSION = "1.4.5";

/**
 * Keyed by bunw's name of a node: the package in the registry, and its sum (sha512; of another version: `npm view
 * @oven/NAME@VERSION dist.integrity`). x64 is the build that needs no AVX2, so that one Bun runs on all x86-64. It costs
 * nothing: in 1.4.5 the registry's build "with AVX2" is the same, byte for byte.
 */
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
    throw new Fail(`There is no bin/bun in "${cached}"`, {
      hint: shell`rm ${cached} and pack again`,
    });
  return bun.bytes;
}

/** bunw's folder, so that there is only one to keep or delete. */
export function ourCache(): string {
  const { KUBE_PKI_REPAIR_CACHE, XDG_CACHE_HOME } = process.env;
  return (
    KUBE_PKI_REPAIR_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "kube-pki-repair")
  );
}

function cache() {
  return join(ourCache(), `nodes-bun-${BUN_VERSION}`);
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
  const child = Bun.spawn([npm, "pack", "--loglevel=error", spec], { cwd: folder, ...streams });
  process.once("exit", () => child.kill());
  const texts = [child.stdout, child.stderr].map((stream) => new Response(stream).text());
  const [stdout = "", stderr = ""] = await Promise.all(texts);
  const exitCode = await child.exited;
  const file = stdout.trim().split("\n").at(-1)!;
  if (exitCode === 0 && existsSync(join(folder, file)) && file !== "") return file;
  throw new Fail(`npm cannot fetch "${spec}", exit code ${exitCode}: ${npmReason(stderr)}`, {
    hint: `npm pack ${spec} says more. No network here: pack on another machine, and copy "${cache()}"`,
  });
}

/** The code and the first sentence of what npm says: a stack and the name of its log come behind them. */
function npmReason(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.replace(/^npm (?:error|ERR!) ?/, "").trim());
  const code = lines.find((line) => line.startsWith("code "))?.slice("code ".length);
  const sentence = lines.find((line) => line && !/^(?:code|syscall|errno|path) /.test(line));
  return [code, sentence ?? "npm says nothing"].filter(Boolean).join(": ");
}

function isPinned(arch: Arch, bytes: Uint8Array) {
  return createHash("sha512").update(bytes).digest("base64") === NODES_BUN[arch].sum;
}
