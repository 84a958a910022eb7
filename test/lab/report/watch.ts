/** Turns what the watchers in the nodes saw (watch-node.ts) into times and counts. */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";

export interface Sample {
  t: number;
  etcd?: boolean;
  api?: boolean;
  /** id → namespace/pod/container */
  containers?: Record<string, string>;
  nodes?: { name: string; ready: boolean; renewed: number }[];
  pods?: { uid: string; name: string; ready: boolean; leaving: boolean; mirror: boolean; node?: string }[];
  endpoints?: Record<string, number>;
}

const FOLDER = "/var/log/rehearsal";

/**
 * Starts a watcher in a node; `samples()` are what it has seen so far, `stop()` ends it. With `goOn`, it adds
 * to what an earlier watcher saw, which died with its node.
 */
export function watch(
  machine: Machine,
  options: { role: "control-plane" | "worker"; bun: string; goOn?: boolean },
) {
  const folder = machine.path(FOLDER);
  if (!options.goOn) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}/watch.jsonl`, "");
  }
  copyFileSync(join(import.meta.dir, "watch-node.ts"), `${folder}/watch-node.ts`);
  // The cache of this Bun would look like one that the kit has left.
  const bun = ["env", "BUN_RUNTIME_TRANSPILER_CACHE_PATH=0", options.bun];
  const ended = machine.run([...bun, `${FOLDER}/watch-node.ts`, FOLDER, options.role]);
  const samples = () => readSamples(readFileSync(`${folder}/watch.jsonl`, "utf8"));
  return {
    samples,
    async stop() {
      writeFileSync(`${folder}/stop`, "");
      const { exitCode, stderr } = await ended;
      if (exitCode !== 0)
        throw new Fail(`The watcher in ${machine.name} ended early: ${stderr.trim()}`, {
          hint: "run the rehearsal again",
        });
    },
  };
}

function readSamples(text: string): Sample[] {
  const lines = text.split("\n");
  lines.pop();
  // A line that a power cut left half written ends where the next one begins.
  return lines
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line) as Sample);
}

/** When `etcd` or `api` did not answer, in seconds since `zero`. */
export function away(samples: Sample[], what: "etcd" | "api", zero: number) {
  const spans: { from: number; to: number | null }[] = [];
  for (const sample of samples.filter((sample) => sample.t >= zero)) {
    const open = spans.at(-1)?.to === null ? spans.at(-1) : undefined;
    const at = (sample.t - zero) / 1000;
    if (!sample[what] && !open) spans.push({ from: at, to: null });
    else if (sample[what] && open) open.to = at;
  }
  return spans;
}

/**
 * When each node was back: its first Lease renewal after the API came back (`apiBack`, ms). Ready alone
 * proves nothing: nobody marks a Node NotReady while the node-lifecycle controller is off.
 */
export function renewals(samples: Sample[], apiBack: number): Map<string, number> {
  const first = new Map<string, number>();
  for (const node of samples.flatMap((sample) => sample.nodes ?? []))
    if (node.ready && node.renewed > apiBack && !first.has(node.name)) first.set(node.name, node.renewed);
  return first;
}

const STATIC_POD =
  /^kube-system\/(etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-vip|kms-plugin|api-balancer|nginx-proxy|haproxy)-/;

/** Workload containers that ran at `from` (ms) and did not at some look between `from` and `to`. */
export function containersGone(samples: Sample[], from: number, to: number): string[] {
  const looks = samples.filter((sample) => sample.containers);
  const before = looks.findLast((sample) => sample.t <= from)?.containers ?? {};
  const gone = new Set<string>();
  for (const look of looks.filter((sample) => sample.t > from && sample.t < to))
    for (const [id, name] of Object.entries(before))
      if (!STATIC_POD.test(name) && !(id in look.containers!)) gone.add(id);
  return [...gone].map((id) => before[id]!).sort();
}

/** How many workload containers ran at `at` (ms). */
export function containersAt(samples: Sample[], at: number): number {
  const look = samples.findLast((sample) => sample.containers && sample.t <= at);
  return Object.values(look?.containers ?? {}).filter((name) => !STATIC_POD.test(name)).length;
}

/**
 * Pods that stayed at `from`, and were leaving, or were gone, at some look before `to`. `lost`: nodes whose machines never
 * came back. Their Nodes are deleted, and so are their pods.
 */
export function podsEvicted(
  samples: Sample[],
  from: number,
  to: number,
  lost: readonly string[] = [],
): string[] {
  const seen = samples.findLast((sample) => sample.pods && sample.t <= from)?.pods ?? [];
  const before = seen.filter(({ mirror, leaving, node = "" }) => !mirror && !leaving && !lost.includes(node));
  const evicted = new Set<string>();
  for (const look of samples.filter((sample) => sample.pods && sample.t > from && sample.t < to)) {
    const staying = new Set(look.pods!.filter((pod) => !pod.leaving).map((pod) => pod.uid));
    for (const pod of before) if (!staying.has(pod.uid)) evicted.add(pod.name);
  }
  return [...evicted].sort();
}

/**
 * Between `from` and `to` (ms): seconds during which a Service, or this one, that had endpoints at `from` had
 * none, and the names of such.
 */
export function endpointsLost(
  samples: Sample[],
  from: number,
  to = Number.POSITIVE_INFINITY,
  only?: string,
): { seconds: number; services: string[] } {
  const looks = samples.filter((sample) => sample.endpoints);
  const before = looks.findLast((sample) => sample.t <= from)?.endpoints ?? {};
  const isWanted = (service: string) => (only ? service === only : service !== "default/kubernetes");
  const services = Object.keys(before).filter((service) => isWanted(service) && before[service]! > 0);
  const lost = new Set<string>();
  let seconds = 0;
  for (const [index, look] of looks.entries()) {
    const without = services.filter((service) => !look.endpoints![service]);
    if (look.t <= from || look.t >= to || without.length === 0) continue;
    seconds += ((looks[index + 1]?.t ?? look.t) - look.t) / 1000;
    for (const service of without) lost.add(service);
  }
  return { seconds, services: [...lost] };
}

/** Since when every pod has been Ready and none terminating; undefined where that is not so at the end. */
export function podsReadySince(samples: Sample[]): number | undefined {
  const looks = samples.filter((sample) => sample.pods);
  const lastBad = looks.findLastIndex((look) => look.pods!.some((pod) => !pod.ready || pod.leaving));
  return looks[lastBad + 1]?.t;
}
