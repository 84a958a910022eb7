/**
 * Compiles Go programs out of published modules, once: they land in the cache, one folder per name and
 * version.
 *
 * `go install module@version` refuses modules with replace directives (Kubernetes has thirty), so each build
 * is a small module of its own that requires the wanted one. A folder is made beside its place and renamed,
 * so an interrupted build leaves nothing half.
 */
import { existsSync, readFileSync } from "node:fs";
import { copyFile, cp, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { freemem, homedir } from "node:os";
import { basename, join, resolve } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { type GoBuild, kubernetesBuild, LIBRARIES_OF } from "./pins.ts";

export const CACHE = resolve(
  process.env.KUBE_PKI_REPAIR_CACHE ||
    join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "kube-pki-repair"),
);

/**
 * Modules are fetched at once, and compiled `after` that has been built. `number`: "2 of 7".
 */
export type Turn = { after?: Promise<unknown>; number?: string };

/** Builds what the pin says, unless the cache has it; returns the folder of programs. */
export async function buildGo(pin: GoBuild, { after, number }: Turn = {}): Promise<string> {
  return await cached(placeOf(pin), async (folder, doing) => {
    doing(after ? "fetching its modules" : "fetching its modules, and compiling the standard library");
    const source = await writeWrapperModule(folder, pin);
    // While the first one fetches, the processor is idle.
    const standard = after ? undefined : buildStandardLibrary(folder);
    // What no proxy has is named here, and not by the sixth program after half an hour of compiling.
    await Promise.all([standard, go(["list", "-deps", "-tags", pin.tags ?? "", ...pin.packages], folder)]);
    doing("");
    await after;
    doing(compiling(number));
    const ldflags = `-s -w ${pin.ldflags ?? ""}`.trim();
    // In one call, so that one program is linked while the next is compiled.
    const output = pin.packages.length === 1 ? programName(pin.packages[0]!) : "./";
    await go(
      ["build", ...SHARED, "-tags", pin.tags ?? "", "-ldflags", ldflags, "-o", output, ...pin.packages],
      folder,
    );
    for (const file of pin.files ?? []) await copyFile(join(source, file), join(folder, basename(file)));
  });
}

/** Most of it, for all programs. In a module of its own, as go writes the go.mod of the other one meanwhile. */
async function buildStandardLibrary(folder: string) {
  const module = join(folder, "standard-library");
  const goVersion = /^go .*$/m.exec(readFileSync(join(folder, "go.mod"), "utf8"))![0];
  await Bun.write(join(module, "go.mod"), `module lab\n${goVersion}\n`);
  await go(["build", ...SHARED, "net/http"], module);
  await rm(module, { recursive: true });
}

const compiling = (number?: string) => (number ? `compiling, build ${number}` : "compiling");

/**
 * The same for all, or what they share would be compiled for each. Nobody debugs these programs: without its
 * tables the compiler has less to write. No -trimpath: it makes a package's key of the version before a
 * replace line, so that one library in one folder had two keys (buildActionID in
 * cmd/go/internal/work/exec.go).
 */
const SHARED = ["-gcflags=all=-dwarf=false"];

const placeOf = ({ name, version }: Pick<GoBuild, "name" | "version">) => `${name}-${version}`;

export function isBuilt({ name, version }: GoBuild): boolean {
  return existsSync(join(CACHE, `${name}-${version}`));
}

/** Compiles our own programs, a module in a folder of sources; `key` changes when the sources do. */
export async function buildOwn(sources: string, key: string, { after, number }: Turn = {}): Promise<string> {
  return await cached(`lab-programs-${key}`, async (folder, doing) => {
    const source = join(folder, "source");
    await cp(sources, source, { recursive: true });
    await after;
    doing(compiling(number));
    await go(["build", ...SHARED, "-ldflags", "-s -w", "-o", `${folder}/`, "./..."], source);
  });
}

/** Every version of a module that the proxy lists. A mirror's list may be old: see `serves`. */
export async function versionsOf(module: string): Promise<string[]> {
  await mkdir(CACHE, { recursive: true });
  const [, ...versions] = (await go(["list", "-m", "-versions", module], CACHE)).trim().split(" ");
  return versions;
}

/**
 * Whether the proxy has this version, also where its list does not name it. A proxy says no with 404, 410 or
 * 403.
 */
export async function serves(module: string, version: string): Promise<boolean> {
  try {
    await go(["list", "-m", `${module}@${version}`], CACHE);
    return true;
  } catch (err) {
    if (err instanceof Fail && /unknown revision|40[34] |410 |not found/i.test(err.message)) return false;
    throw err;
  }
}

/**
 * The folder `name` of the cache, filled by `make` if it is not there yet. It tells `doing` what it does, or
 * "" while it waits for its turn.
 */
export async function cached(
  name: string,
  make: (folder: string, doing: (what: string) => void) => Promise<void>,
): Promise<string> {
  const place = join(CACHE, name);
  if (existsSync(place)) return place;
  await mkdir(CACHE, { recursive: true });
  const folder = await mkdtemp(join(CACHE, `.${name}-`));
  const progress = tellProgress(name);
  try {
    await make(folder, progress.doing);
    await rename(folder, place);
  } catch (err) {
    // Another process may have been quicker with the very same thing.
    if (!existsSync(place)) throw err;
  } finally {
    progress.end();
    await rm(folder, { recursive: true, force: true });
  }
  console.error(`  ${name}: ready after ${progress.elapsed()}`);
  return place;
}

/** Says what is done now, and each half minute that it still is. */
function tellProgress(name: string) {
  let begin = performance.now();
  let now = "";
  const elapsed = () => `${((performance.now() - begin) / 1000).toFixed(0)} s`;
  const clock = setInterval(() => now && console.error(`  ${name}: still ${now}, ${elapsed()}`), 30_000);
  return {
    elapsed,
    end: () => clearInterval(clock),
    doing(what: string) {
      [now, begin] = [what, performance.now()];
      if (what) console.error(`  ${name}: ${what}`);
    },
  };
}

/** The folder with the source of a module, which is fetched if it is not here. */
export async function sourceOf({ module, version }: Pick<GoBuild, "module" | "version">, folder = CACHE) {
  const answer = await go(["mod", "download", "-json", `${module}@${version}`], folder);
  return (JSON.parse(answer) as { Dir: string }).Dir;
}

/** Returns the folder of the module's source. */
async function writeWrapperModule(folder: string, pin: GoBuild): Promise<string> {
  const source = await sourceOf(pin, folder);
  const goMod = await readFile(join(source, "go.mod"), "utf8");
  const goVersion = /^go .*$/m.exec(goMod)?.[0] ?? "go 1.24.0";
  const replaced = [...replaceLines(goMod, pin), ...(await librariesOfKubernetes(folder, pin))];
  const lines = ["module lab", goVersion, `require ${pin.module} ${pin.version}`, ...replaced, ""];
  await Bun.write(join(folder, "go.mod"), lines.join("\n"));
  if (pin.main)
    await Bun.write(
      join(folder, pin.packages[0]!.replace(/^lab\//, ""), "main.go"),
      Bun.file(join(import.meta.dir, pin.main)),
    );
  return source;
}

async function librariesOfKubernetes(
  folder: string,
  { module, librariesOfKubernetes: wanted }: GoBuild,
): Promise<string[]> {
  if (!wanted) return [];
  const { stagingVersion, ...kubernetes } = kubernetesBuild(LIBRARIES_OF, []);
  const answer = await go(["mod", "download", "-json", `${kubernetes.module}@${LIBRARIES_OF}`], folder);
  const goMod = await readFile((JSON.parse(answer) as { GoMod: string }).GoMod, "utf8");
  return libraryLines(goMod, stagingVersion!, [module, ...wanted.but]);
}

/** Replace lines for what Kubernetes' go.mod requires, but for the modules `but` and those below them. */
export function libraryLines(goMod: string, stagingVersion: string, but: readonly string[]): string[] {
  const required = [...goMod.matchAll(/^\s*(?:require )?(\S+\.\S+) (v\S+)/gm)].map(
    ([, name, version]) => [name!, version!] as const,
  );
  const isOwn = (name: string) => but.some((own) => `${name}/`.startsWith(`${own}/`));
  return required
    .filter(([name]) => !isOwn(name))
    .map(
      ([name, version]) => `replace ${name} => ${name} ${version === "v0.0.0" ? stagingVersion : version}`,
    );
}

/**
 * Replace lines hold in the main module only, so the wrapper repeats them. Those that lead to a folder, which
 * no zip of a module has, need a version.
 */
export function replaceLines(
  goMod: string,
  { stagingVersion, replaces }: Pick<GoBuild, "stagingVersion" | "replaces">,
): string[] {
  const staging =
    stagingVersion === undefined ? [] : [...goMod.matchAll(/^\s*(?:replace )?(\S+) => \.\/staging/gm)];
  const own = replaces ? [...goMod.matchAll(/^\s*(?:replace )?((\S+)(?: v\S+)?) => (\S+ v\S+)$/gm)] : [];
  return [
    ...staging.map(([, name]) => `replace ${name} => ${name} ${stagingVersion}`),
    ...own
      .filter(([, , name]) => !(name! in replaces!))
      .map(([, replaced, , target]) => `replace ${replaced} => ${target}`),
    ...Object.entries(replaces ?? {}).map(([name, version]) => `replace ${name} => ${name} ${version}`),
  ];
}

export const GET_GO =
  "apt-get install golang-go (1.21 or newer: it fetches the newer Go that Kubernetes asks for), or set KUBE_PKI_REPAIR_BIN to a folder of programs";

/** GOTMPDIR: /tmp may be in memory, and what is compiled for Kubernetes is 2 GB. */
const SETTINGS = {
  CGO_ENABLED: "0",
  GOFLAGS: "-mod=mod -buildvcs=false",
  GOWORK: "off",
  GOTMPDIR: CACHE,
};

/**
 * The compilers clean up their memory for a fifth of their time. A rarer clean-up takes half of that: the
 * largest package then needs about 0.8 GB and no longer 0.4, and there may be four compilers.
 */
export function memoryFor(bytes: number): { GOGC?: string } {
  return bytes < 5e9 ? {} : { GOGC: "400" };
}

/** What this machine has free, or our container at most has. */
const free = () => Math.min(freemem(), process.constrainedMemory());

async function go(args: string[], cwd: string): Promise<string> {
  const program = goProgram();
  if (!program) throw new Fail("Cannot build the lab's programs: go is missing", { hint: GET_GO });
  const proc = Bun.spawn([program, ...args], {
    cwd,
    env: { ...memoryFor(free()), ...process.env, ...SETTINGS },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(proc.stdout).text(),
    new Response(proc.stderr).text(),
    proc.exited,
  ]);
  if (code === 0) return stdout;
  throw new Fail(
    `\`go ${args[0]} ${args.at(-1)}\` exited ${code}: ${stderr.trim().split("\n").slice(-5).join(" / ")}`,
    {
      hint: "go needs its module proxy, or set KUBE_PKI_REPAIR_BIN to a folder that has the program",
    },
  );
}

export function goProgram(): string | undefined {
  return Bun.which("go") ?? Bun.which("go", { PATH: "/usr/local/go/bin" }) ?? undefined;
}

/** The last element of an import path that is not a major version. */
export function programName(path: string) {
  const name = basename(path);
  if (!/^v\d+$/.test(name)) return name;
  // go.etcd.io/etcd/server/v3 is the program everyone knows as etcd.
  return path.startsWith("go.etcd.io/etcd/server") ? "etcd" : basename(path.slice(0, path.lastIndexOf("/")));
}
