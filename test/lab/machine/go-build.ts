/**
 * Compiles Go programs out of published modules, once: they land in the cache, one folder per name and version.
 *
 * `go install module@version` refuses modules with replace directives (Kubernetes has thirty), so each build is a small module of its
 * own that requires the wanted one. A folder is made beside its place and renamed, so an interrupted build leaves nothing half.
 */
import { existsSync } from "node:fs";
import { copyFile, cp, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import type { GoBuild } from "./pins.ts";

export const CACHE = process.env.KUBE_PKI_REPAIR_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kube-pki-repair");

/** Builds what the pin says, unless the cache has it; returns the folder of programs. */
export async function buildGo(pin: GoBuild): Promise<string> {
  return await cached(`${pin.name}-${pin.version}`, async (folder) => {
    const source = await writeWrapperModule(folder, pin);
    await go(["mod", "tidy", "-e"], folder);
    // What no proxy has is named here, and not by the sixth program after half an hour of compiling.
    await go(["list", "-deps", "-tags", pin.tags ?? "", ...pin.packages], folder);
    const ldflags = `-s -w ${pin.ldflags ?? ""}`.trim();
    for (const path of pin.packages) {
      await go(["build", "-trimpath", "-tags", pin.tags ?? "", "-ldflags", ldflags, "-o", programName(path), path], folder);
    }
    for (const file of pin.files ?? []) await copyFile(join(source, file), join(folder, basename(file)));
  });
}

export function isBuilt({ name, version }: GoBuild): boolean {
  return existsSync(join(CACHE, `${name}-${version}`));
}

/** Compiles one of our own programs, a module in a folder of sources; `key` changes when the sources do. */
export async function buildOwn(sources: string, key: string): Promise<string> {
  return await cached(`lab-programs-${key}`, async (folder) => {
    const source = join(folder, "source");
    await cp(sources, source, { recursive: true });
    await go(["build", "-trimpath", "-ldflags", "-s -w", "-o", `${folder}/`, "./..."], source);
  });
}

/** Every version of a module that the proxy lists. A mirror's list may be old: see `serves`. */
export async function versionsOf(module: string): Promise<string[]> {
  await mkdir(CACHE, { recursive: true });
  const [, ...versions] = (await go(["list", "-m", "-versions", module], CACHE)).trim().split(" ");
  return versions;
}

/** Whether the proxy has this version, also where its list does not name it. A proxy says no with 404, 410 or 403. */
export async function serves(module: string, version: string): Promise<boolean> {
  try {
    await go(["list", "-m", `${module}@${version}`], CACHE);
    return true;
  } catch (err) {
    if (err instanceof Fail && /unknown revision|40[34] |410 |not found/i.test(err.message)) return false;
    throw err;
  }
}

/** The folder `name` of the cache, filled by `make` if it is not there yet. */
export async function cached(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const place = join(CACHE, name);
  if (existsSync(place)) return place;
  await mkdir(CACHE, { recursive: true });
  const folder = await mkdtemp(join(CACHE, `.${name}-`));
  const begin = performance.now();
  const clock = setInterval(() => console.error(`  ${name}: still at it, ${elapsed(begin)}`), 30_000);
  console.error(`  ${name}: making it, once`);
  try {
    await make(folder);
    await rename(folder, place);
  } catch (err) {
    // Another process may have been quicker with the very same thing.
    if (!existsSync(place)) throw err;
  } finally {
    clearInterval(clock);
    await rm(folder, { recursive: true, force: true });
  }
  console.error(`  ${name}: ready after ${elapsed(begin)}`);
  return place;
}

/** Returns the folder of the module's source. */
async function writeWrapperModule(folder: string, pin: GoBuild): Promise<string> {
  const answer = await go(["mod", "download", "-json", `${pin.module}@${pin.version}`], folder);
  const source = (JSON.parse(answer) as { Dir: string }).Dir;
  const goMod = await readFile(join(source, "go.mod"), "utf8");
  const goVersion = /^go .*$/m.exec(goMod)?.[0] ?? "go 1.24.0";
  const lines = ["module lab", goVersion, `require ${pin.module} ${pin.version}`, ...replaceLines(goMod, pin), ""];
  await Bun.write(join(folder, "go.mod"), lines.join("\n"));
  // `go mod tidy` keeps what some file imports; the build tag keeps the compiler away from it.
  const imports = pin.packages.map((path) => `import _ "${path}"`);
  await Bun.write(join(folder, "tools.go"), ["//go:build tools", "package tools", ...imports, ""].join("\n"));
  return source;
}

/** Replace lines hold in the main module only, so the wrapper repeats them. Those that lead to a folder, which no zip of a module has, need a version. */
export function replaceLines(goMod: string, { stagingVersion, replaces }: Pick<GoBuild, "stagingVersion" | "replaces">): string[] {
  const staging = stagingVersion === undefined ? [] : [...goMod.matchAll(/^\s*(?:replace )?(\S+) => \.\/staging/gm)];
  const own = replaces ? [...goMod.matchAll(/^\s*(?:replace )?((\S+)(?: v\S+)?) => (\S+ v\S+)$/gm)] : [];
  return [
    ...staging.map(([, name]) => `replace ${name} => ${name} ${stagingVersion}`),
    ...own.filter(([, , name]) => !(name! in replaces!)).map(([, replaced, , target]) => `replace ${replaced} => ${target}`),
    ...Object.entries(replaces ?? {}).map(([name, version]) => `replace ${name} => ${name} ${version}`),
  ];
}

async function go(args: string[], cwd: string): Promise<string> {
  const proc = Bun.spawn([goProgram(), ...args], {
    cwd,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod -buildvcs=false", GOWORK: "off" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([new Response(proc.stdout).text(), new Response(proc.stderr).text(), proc.exited]);
  if (code === 0) return stdout;
  throw new Fail(`\`go ${args[0]} ${args.at(-1)}\` exited ${code}: ${stderr.trim().split("\n").slice(-5).join(" / ")}`, {
    hint: "go needs its module proxy, or set KUBE_PKI_REPAIR_BIN to a folder that has the program",
  });
}

function goProgram() {
  const found = Bun.which("go") ?? Bun.which("go", { PATH: "/usr/local/go/bin" });
  if (found) return found;
  throw new Fail("Cannot build the lab's programs: go is missing", {
    hint: "apt-get install golang-go (1.21 or newer: it fetches the newer Go that Kubernetes asks for), or set KUBE_PKI_REPAIR_BIN",
  });
}

/** The last element of an import path that is not a major version. */
export function programName(path: string) {
  const name = basename(path);
  if (!/^v\d+$/.test(name)) return name;
  // go.etcd.io/etcd/server/v3 is the program everyone knows as etcd.
  return path.startsWith("go.etcd.io/etcd/server") ? "etcd" : basename(path.slice(0, path.lastIndexOf("/")));
}

function elapsed(begin: number) {
  return `${((performance.now() - begin) / 1000).toFixed(0)} s`;
}
