/** Deploys the workloads, and waits until all of them work. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { minorOf } from "../../../shared/pki/certs.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import type { Cluster } from "./cluster.ts";
import { KUBERNETES, SERVING_BY_CA } from "./pins.ts";

export const NAMESPACES = ["shop", "bank"];
/** Kubernetes 1.29 does not know the preStop sleep: there the container sleeps. */
const PRE_STOP = minorOf(KUBERNETES) >= 30 ? "{sleep: {seconds: 3}}" : '{exec: {command: [sleep, "3"]}}';
const SOURCE = readFileSync(join(import.meta.dir, "workloads.yaml"), "utf8").replaceAll("PRE_STOP", PRE_STOP);
const PINGS = readFileSync(join(import.meta.dir, "pings.yaml"), "utf8");
const BY_CA = readFileSync(join(import.meta.dir, "aggregated.yaml"), "utf8");
const INSECURE = BY_CA.replace(/--kubelet-certificate-authority=[^\],]*/, "--kubelet-insecure-tls");
const HEARTBEATS = ["caller", "asker", "asker-cached"];

export async function deployWorkloads(cluster: Cluster) {
  const documents = NAMESPACES.flatMap((namespace) => [
    SOURCE.replaceAll("NAMESPACE", namespace),
    ...randomContents(namespace),
  ]);
  const pings = cluster.profile.pings ? pingObjects() : [];
  const aggregated = SERVING_BY_CA && cluster.profile.selfSigned.length === 0 ? BY_CA : INSECURE;
  await cluster.apply([...documents, ...pings, aggregated, ...cluster.profile.objects].join("\n---\n"));
}

/** The Service first: pods know it by their environment. */
function pingObjects(): string[] {
  const labels = { "pod-security.kubernetes.io/enforce": "privileged" };
  const spec = { selector: { pings: "all" }, ports: [{ port: 80, targetPort: 8080 }] };
  const kinds = { moving: "true", staying: "false" };
  return [
    stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name: "pings", labels } }),
    stringify({ apiVersion: "v1", kind: "Service", metadata: { name: "echo", namespace: "pings" }, spec }),
    ...Object.entries(kinds).map(([kind, token]) =>
      PINGS.replaceAll("KIND", kind).replaceAll("TOKEN", token),
    ),
  ];
}

/** Secrets and ConfigMaps with random contents: if they come back, they come from this cluster's etcd. */
function randomContents(namespace: string) {
  return ["db", "api", "tls"].flatMap((name) => [
    stringify({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name, namespace },
      data: { value: randomBytes(48).toString("base64") },
    }),
    stringify({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace },
      data: { value: randomBytes(48).toString("hex") },
    }),
  ]);
}

/**
 * Whether the metrics server answers through the API server: discovery needs no metrics yet, only trust in
 * the front proxy.
 */
async function aggregatedAnswers(cluster: Cluster) {
  const cp = cluster.controlPlanes[0]!;
  const command = ["kubectl", "get", "--raw", "/apis/metrics.k8s.io/v1beta1"];
  return (await cp.run(command, { env: { KUBECONFIG: "/etc/kubernetes/admin.conf" } })).exitCode === 0;
}

export async function workloadsReady(cluster: Cluster, seconds = 120) {
  await waitFor("the workloads to be available", async () => (await unavailable(cluster)) === "", {
    seconds,
    hint: "test/lab/enter.ts cp1 kubectl get pods -A",
  });
  await waitFor("the aggregated API to answer", () => aggregatedAnswers(cluster), {
    seconds,
    hint: "test/lab/enter.ts cp1 kubectl get apiservices",
  });
  await waitFor(
    "a good heartbeat of every caller",
    () => NAMESPACES.every((ns) => HEARTBEATS.every((name) => beatsNow(cluster, ns, name))),
    {
      seconds,
      hint: "read /var/log/heartbeat of the worker",
    },
  );
}

/** The names of what is not available in full, or "". */
async function unavailable(cluster: Cluster) {
  const list = JSON.parse(await cluster.kubectl("get", "deploy,sts,ds,pod", "-A", "-o", "json")) as {
    items: KubeObject[];
  };
  const expected = parseAllDocuments(SOURCE).length;
  if (list.items.length < expected) return "not created yet";
  return list.items
    .filter((item) => !isAvailable(item))
    .map((item) => item.metadata.name)
    .join(" ");
}

type KubeObject = {
  kind: string;
  metadata: { name: string; generation?: number };
  spec: { replicas?: number };
  status: {
    observedGeneration?: number;
    availableReplicas?: number;
    numberAvailable?: number;
    desiredNumberScheduled?: number;
    conditions?: { type: string; status: string }[];
  };
};

function isAvailable({ kind, metadata, spec, status }: KubeObject) {
  if (kind === "Pod")
    return status.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True");
  if (status.observedGeneration !== metadata.generation) return false;
  if (kind === "DaemonSet") return (status.numberAvailable ?? 0) >= (status.desiredNumberScheduled ?? 1);
  return (status.availableReplicas ?? 0) >= (spec.replicas ?? 1);
}

type Beat = { t: number; ok: boolean };

/**
 * The last heartbeat of a workload, from the disk of the node it runs on: readable while the API is down.
 */
function lastBeat(cluster: Cluster, namespace: string, name: string): Beat | undefined {
  const logs = cluster.nodes.flatMap((node) => {
    const path = `/var/log/heartbeat/${namespace}-${name}.log`;
    return node.exists(path) ? readFileSync(node.path(path), "utf8").split("\n") : [];
  });
  // The last line may be half written.
  const beats = logs.flatMap((line) => (line.endsWith("}") ? [JSON.parse(line) as Beat] : []));
  return beats.sort((a, b) => a.t - b.t).at(-1);
}

/**
 * Whether the last heartbeat is good and young: on a node that lost power the last one stays good for ever.
 */
function beatsNow(cluster: Cluster, namespace: string, name: string) {
  const beat = lastBeat(cluster, namespace, name);
  return beat?.ok && Date.now() - beat.t < 3000;
}
