/**
 * The packages of npm as a node gets them: each module that a script imports is one file. Loading their hundreds of
 * files took a third of the processor time of a script's start; and there is less to unpack, and to look
 * through before each start. Our own files stay as they are: people edit those.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../fail.ts";

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
    for (const module of modules) files.set(join(folder, fileIn(name, module)), await bundled(home, module));
  }
  return files;
}

/** These packages, and all packages that they need. */
function withDependencies(home: string, names: readonly string[], seen = new Map<string, Manifest>()) {
  for (const name of names.filter((name) => !seen.has(name))) {
    const file = join(home, "node_modules", name, "package.json");
    if (!existsSync(file))
      throw new Fail(`The package ${name} is not installed`, { hint: "./bunw install --frozen-lockfile" });
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
