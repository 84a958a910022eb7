/**
 * Runs inside a node during a rehearsal and writes what it sees, one JSON line for each look. It is copied
 * into the node, so it imports none of our files. Arguments: the folder to write to, and "control-plane" or
 * "worker". It ends when a file `stop` appears in that folder.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

const [folder, role] = process.argv.slice(2) as [string, string];
const insecure = { rejectUnauthorized: false };

/**
 * Milliseconds between two looks at etcd and the API; every fourth look also lists containers and asks the
 * API for more.
 */
const INTERVAL = 250;

async function main() {
  for (let look = 0; !existsSync(`${folder}/stop`); look++) {
    const next = Date.now() + INTERVAL;
    const sample: Record<string, unknown> = { t: Date.now() };
    if (role === "control-plane") {
      const [etcd, api] = await Promise.all([
        ready("http://localhost:2381/readyz"),
        ready("https://127.0.0.1:6443/readyz"),
      ]);
      Object.assign(sample, { etcd, api });
    }
    if (look % 4 === 0) {
      sample.containers = await containers();
      if (sample.api) Object.assign(sample, await cluster());
    }
    appendFileSync(`${folder}/watch.jsonl`, `${JSON.stringify(sample)}\n`);
    await Bun.sleep(Math.max(20, next - Date.now()));
  }
}

async function ready(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { tls: insecure, keepalive: false, signal: AbortSignal.timeout(1000) });
    return answer.status === 200;
  } catch {
    return false; // refused, reset or late: this is what is measured
  }
}

/** Running containers by id; undefined while containerd does not answer. */
async function containers(): Promise<Record<string, string> | undefined> {
  const crictl = Bun.spawn(["crictl", "ps", "-o", "json"], { stdout: "pipe", stderr: "ignore" });
  const text = await new Response(crictl.stdout).text();
  if ((await crictl.exited) !== 0) return undefined;
  const list = JSON.parse(text).containers as { id: string; labels: Record<string, string> }[];
  const name = (label: Record<string, string>) =>
    ["pod.namespace", "pod.name", "container.name"].map((key) => label[`io.kubernetes.${key}`]).join("/");
  return Object.fromEntries(list.map(({ id, labels }) => [id, name(labels)]));
}

/**
 * Nodes, pods and endpoints from the API with this node's admin.conf; nothing while that file is missing or
 * not accepted.
 */
async function cluster() {
  try {
    const conf = Bun.YAML.parse(readFileSync("/etc/kubernetes/admin.conf", "utf8")) as Kubeconfig;
    const data = (base64: string) => Buffer.from(base64, "base64").toString();
    const user = conf.users[0]!.user;
    const tls = {
      ...insecure,
      cert: data(user["client-certificate-data"]),
      key: data(user["client-key-data"]),
    };
    const get = async (path: string) => {
      const answer = await fetch(`https://127.0.0.1:6443${path}`, {
        tls,
        keepalive: false,
        signal: AbortSignal.timeout(3000),
      });
      if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
      return ((await answer.json()) as { items: Item[] }).items;
    };
    const [nodes, leases, pods, slices] = await Promise.all([
      get("/api/v1/nodes"),
      get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
      get("/api/v1/pods"),
      get("/apis/discovery.k8s.io/v1/endpointslices"),
    ]);
    return { nodes: readNodes(nodes, leases), pods: readPods(pods), endpoints: readEndpoints(slices) };
  } catch (err) {
    return { apiError: String(err) };
  }
}

function readNodes(nodes: Item[], leases: Item[]) {
  const renewed = new Map(
    leases.map((lease) => [lease.metadata.name, Date.parse(lease.spec?.renewTime ?? "")]),
  );
  return nodes.map(({ metadata, status }) => ({
    name: metadata.name,
    ready: status?.conditions?.find((condition) => condition.type === "Ready")?.status === "True",
    renewed: renewed.get(metadata.name) ?? 0,
  }));
}

function readPods(pods: Item[]) {
  return pods.map(({ metadata, spec, status }) => ({
    uid: metadata.uid,
    name: `${metadata.namespace}/${metadata.name}`,
    // one that has ended well wants nothing more: a restore leaves such pods
    ready:
      status?.phase === "Succeeded" ||
      status?.conditions?.find((condition) => condition.type === "Ready")?.status === "True",
    leaving: metadata.deletionTimestamp !== undefined || status?.reason === "Evicted",
    mirror: metadata.annotations?.["kubernetes.io/config.mirror"] !== undefined,
    node: spec?.nodeName ?? "",
  }));
}

/** Ready endpoints by Service. */
function readEndpoints(slices: Item[]) {
  const count: Record<string, number> = {};
  for (const { metadata, endpoints } of slices) {
    const service = `${metadata.namespace}/${metadata.labels?.["kubernetes.io/service-name"]}`;
    count[service] =
      (count[service] ?? 0) +
      (endpoints ?? []).filter((endpoint) => endpoint.conditions?.ready !== false).length;
  }
  return count;
}

interface Kubeconfig {
  users: { user: { "client-certificate-data": string; "client-key-data": string } }[];
}

interface Item {
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: { renewTime?: string; nodeName?: string };
  status?: { phase?: string; reason?: string; conditions?: { type: string; status: string }[] };
  endpoints?: { conditions?: { ready?: boolean } }[] | null;
}

await main();
