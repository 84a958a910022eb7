/**
 * The paths of the lab's programs: in the folder of KUBE_PKI_REPAIR_BIN, or built from Go modules (the first
 * time about 7 minutes).
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { buildGo, buildOwn, programName, type Turn } from "./go-build.ts";
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
  const build = async (pin: GoBuild, turn: Turn) =>
    await collect(found, pin.packages.map(programName), () => buildGo(pin, turn));
  const etcd = async (turn: Turn) => {
    await turn.after;
    const images = await imageNames(found.get("kubeadm")!);
    await build(etcdBuild(images.find((name) => name.includes("/etcd:"))!), turn);
  };
  const own = async (turn: Turn) =>
    await collect(found, OWN_PROGRAMS, async () =>
      buildOwn(OWN_SOURCES, await hashOfSources(OWN_SOURCES), turn),
    );
  const builds = [
    async (turn: Turn) => await build(kubernetesBuild(KUBERNETES, KUBERNETES_PROGRAMS), turn),
    etcd,
    ...OTHERS.map((pin) => async (turn: Turn) => await build(pin, turn)),
    own,
  ];
  await inLanes(2, builds);
  return found;
}

/** The first alone; then each begins when the one `lanes` places before it is done. */
async function inLanes(lanes: number, builds: readonly ((turn: Turn) => Promise<void>)[]) {
  const begun: Promise<void>[] = [];
  for (const [i, build] of builds.entries()) {
    const after = begun[Math.max(0, i - lanes)];
    begun.push(build({ ...(after && { after }), number: `${i + 1} of ${builds.length}` }));
  }
  await Promise.all(begun);
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
