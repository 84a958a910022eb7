/**
 * The paths of the lab's programs: in the folder of KUBE_PKI_REPAIR_BIN, or built from Go modules (the first
 * time about 7 minutes).
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { buildGo, buildOwn, isBuilt, programName } from "./go-build.ts";
import { imageNames } from "./images.ts";
import { etcdBuild, type GoBuild, KUBERNETES, KUBERNETES_PROGRAMS, kubernetesBuild, OTHERS } from "./pins.ts";

const OWN_SOURCES = join(import.meta.dir, "programs");
const OWN_PROGRAMS = ["etcdget", "kmsplugin", "pause", "workload", "yamltojson"];

/**
 * Program name → path, for everything a cluster needs. Kubernetes first: what it is compiled with is compiled
 * for the others as well. They fetch their modules meanwhile, and are then compiled in two lanes, so that
 * both cores have work while one program is linked.
 */
export async function binaries(): Promise<Map<string, string>> {
  if (!/^v1\.\d+\.\d+$/.test(KUBERNETES))
    throw new Fail(`KUBERNETES is "${KUBERNETES}", which is no release`, {
      hint: "KUBERNETES=v1.37.2 npm run rehearse",
    });
  const found = new Map<string, string>();
  let ready = 0;
  const build = async (pin: GoBuild, after?: Promise<unknown>) => {
    const wasBuilt = isBuilt(pin);
    await collect(found, pin.packages.map(programName), () => buildGo(pin, after));
    ready++;
    if (!wasBuilt) console.error(`  ${ready} of ${OTHERS.length + 2} builds are ready`);
  };
  const etcd = async (after: Promise<unknown>) => {
    await after;
    const images = await imageNames(found.get("kubeadm")!);
    await build(etcdBuild(images.find((name) => name.includes("/etcd:"))!));
  };
  const own = async (after: Promise<unknown>) => {
    await after;
    await collect(found, OWN_PROGRAMS, async () => buildOwn(OWN_SOURCES, await hashOfSources(OWN_SOURCES)));
  };
  const kubernetes = build(kubernetesBuild(KUBERNETES, KUBERNETES_PROGRAMS));
  const builds = [
    etcd,
    ...OTHERS.map((pin) => async (after: Promise<unknown>) => await build(pin, after)),
    own,
  ];
  await Promise.all(inLanes(2, kubernetes, builds));
  return found;
}

/** Each begins when the one `lanes` places before it is done, and the first ones after `first`. */
function inLanes(
  lanes: number,
  first: Promise<unknown>,
  tasks: readonly ((after: Promise<unknown>) => Promise<void>)[],
) {
  const begun: Promise<unknown>[] = Array.from({ length: lanes }, () => first);
  for (const task of tasks) begun.push(task(begun.at(-lanes)!));
  return begun;
}

/** One of our own programs alone: nothing of Kubernetes is built for it. */
export async function ownProgram(name: string): Promise<string> {
  const found = new Map<string, string>();
  await collect(found, [name], async () => buildOwn(OWN_SOURCES, await hashOfSources(OWN_SOURCES)));
  return found.get(name)!;
}

async function collect(found: Map<string, string>, programs: string[], build: () => Promise<string>) {
  const given = process.env.KUBE_PKI_REPAIR_BIN;
  const missing: string[] = [];
  for (const program of programs) {
    if (given && existsSync(join(given, program))) found.set(program, join(given, program));
    else missing.push(program);
  }
  if (missing.length === 0) return;
  const folder = await build();
  for (const program of missing) found.set(program, join(folder, program));
}

async function hashOfSources(folder: string) {
  const hash = createHash("sha256");
  for (const file of (await readdir(folder, { recursive: true })).sort()) {
    if (/\.go$|go\.(mod|sum)$/.test(file)) hash.update(file).update(await readFile(join(folder, file)));
  }
  return hash.digest("hex").slice(0, 12);
}

if (import.meta.main) for (const [name, path] of await binaries()) console.log(`${name}\t${path}`);
