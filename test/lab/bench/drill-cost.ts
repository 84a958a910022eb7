/**
 * What a drill costs on a large cluster: a pretend node that is well, whose etcd is real, has thousands of
 * Nodes, pods and gigabytes, and is written to a hundred times a second. Half of the pods are as Kubernetes
 * encodes them (protobuf), half are JSON.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Drill } from "../../../shared/drill/drill.ts";
import { ADDRESS } from "../../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { pretendNode } from "../../pretend/node.ts";
import { oldPod, serveRunning } from "../../pretend/running.ts";
import { binaries } from "../machine/binaries.ts";
import { ask, fill, put, startEtcd, writing } from "../machine/loopback-etcd.ts";
import { type Cost, cost, ended, FLAGS, median, WRITES } from "./big-etcd.ts";
import { refuseFullDisk } from "./carve.ts";

const PODS_PER_NODE = 20;
const OBJECTS = 100_000;
/** Operations of one transaction, and transactions at a time. */
const EACH = 50;
const AT_ONCE = 4;

interface DrillCost {
  gigabytes: number;
  nodes: number;
  pods: number;
  apiReads: number;
  /** Requests that the API server really got. */
  asked: number;
  drill: Cost;
}

export async function benchDrill(gigabytes: number, nodes: number): Promise<DrillCost> {
  const folder = mkdtempSync(join(tmpdir(), "bench-drill-"));
  refuseFullDisk(folder, 2.5 * gigabytes);
  using node = await pretendNode({ kind: "healthy control plane node" });
  const programs = await binaries();
  const pods = nodes * PODS_PER_NODE;
  const load = {
    objects: OBJECTS,
    bytes: Math.round((gigabytes * 0.94e9 - pods * 3500 - nodes * 12_000) / OBJECTS),
  };
  try {
    const filling = await startEtcd(programs.get("etcd")!, folder, {
      flags: [...FLAGS, "--unsafe-no-fsync"],
      host: ADDRESS,
    });
    for (const [key, value] of node.stored) await put(filling.url, key, value);
    await putMany(filling.url, nodes, (i) => [
      `/registry/minions/n${i}`,
      Buffer.from(JSON.stringify(nodeOf(i))),
    ]);
    await putMany(filling.url, pods, (i) => podOf(i, nodes));
    await fill(filling.url, load).finally(() => filling.program.stop());
    const etcd = await startEtcd(programs.get("etcd")!, folder, { flags: FLAGS, host: ADDRESS });
    rmSync(`${node.root}/var/lib/etcd/member`, { recursive: true });
    symlinkSync(`${etcd.dataDir}/member`, `${node.root}/var/lib/etcd/member`);
    const measured = await measure(node, { url: etcd.url, load }).finally(() => etcd.program.stop());
    return { gigabytes: statSync(`${etcd.dataDir}/member/snap/db`).size / 1e9, nodes, pods, ...measured };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measure(
  node: Awaited<ReturnType<typeof pretendNode>>,
  { url, load }: { url: string; load: Parameters<typeof writing>[1] },
): Promise<Pick<DrillCost, "apiReads" | "asked" | "drill">> {
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node);
  await using _writer = writing(url, load, WRITES);
  const { stdout, stderr } = await node.run("drill --json");
  if (!stdout) throw new Error(`the drill said: ${stderr}`);
  const { apiReads } = JSON.parse(stdout) as Drill;
  const asked = api.requests.length;
  return { apiReads, asked, drill: await median(() => ended(node.start("drill --json"), [0, 2])) };
}

export function drillLine({ gigabytes, nodes, pods, apiReads, asked, drill }: DrillCost): string {
  const cluster = `${nodes} Nodes, ${pods} pods, etcd of ${gigabytes.toFixed(1)} GB, ${WRITES} writes/s`;
  return `drill, ${cluster}: ${cost(drill)}; ${asked} API requests (it says ${apiReads})`;
}

async function putMany(url: string, count: number, entry: (i: number) => [key: string, value: Uint8Array]) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const from = next;
      next += EACH;
      const entries = Array.from({ length: Math.min(EACH, count - from) }, (_, i) => entry(from + i));
      const put = ([key, value]: [string, Uint8Array]) => ({
        request_put: {
          key: Buffer.from(key).toString("base64"),
          value: Buffer.from(value).toString("base64"),
        },
      });
      await ask(url, "kv/txn", { success: entries.map(put) });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** With as many images as a kubelet reports. */
function nodeOf(i: number) {
  const images = Array.from({ length: 50 }, (_, n) => ({
    names: [
      `registry.example/team/image-${n}@sha256:${"0123456789abcdef".repeat(4)}`,
      `registry.example/team/image-${n}:v1.2.${n}`,
    ],
    sizeBytes: 1e8 + n,
  }));
  const addresses = [{ type: "InternalIP", address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}` }];
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `n${i}`, uid: `uid-${i}` },
    status: { addresses, images },
  };
}

const ENCODED = readFileSync(`${import.meta.dir}/../../fixtures/mirror-pods/kube-apiserver.bin`);
const NAME = "kube-apiserver-m1.example";

function podOf(i: number, nodes: number): [key: string, value: Uint8Array] {
  if (i % 2 === 0) {
    const name = `encoded-${String(i).padStart(NAME.length - 8, "0")}`;
    return [
      `/registry/pods/load/${name}`,
      Buffer.from(Buffer.from(ENCODED).toString("latin1").replaceAll(NAME, name), "latin1"),
    ];
  }
  const app = `app-${i % 2000}`;
  const pod = oldPod(
    `${app}-${i}`,
    { kind: "ReplicaSet", name: `${app}-5`, apiVersion: "apps.example/v1" },
    { app },
  );
  const fieldsV1 = {
    "f:metadata": Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`f:label-${n}`, { ".": {} }])),
  };
  const metadata = {
    ...pod.metadata,
    namespace: "load",
    uid: `uid-of-${i}`,
    managedFields: [{ manager: "kubelet", fieldsV1 }],
  };
  const spec = {
    ...pod.spec,
    nodeName: `n${i % nodes}`,
    containers: [{ name: "app", image: "registry.example/app:v1", env: [] }],
  };
  return [
    `/registry/pods/load/${app}-${i}`,
    Buffer.from(JSON.stringify({ apiVersion: "v1", kind: "Pod", ...pod, metadata, spec })),
  ];
}
