/** A control plane node without etcd data: its files by themselves, and why the parts of the runbook do not begin. */
import { clusterCaSeen } from "../facts/ca-copies.ts";
import { certificatesDirOn } from "../facts/certificates-dir.ts";
import { type WithoutData, whyWithoutData, withoutDataSteps } from "../facts/no-etcd-data.ts";
import type { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { CONTROL_PLANE, type Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { CERTS } from "../pki/certs.ts";
import { examine, examineKubeconfig } from "../pki/examine.ts";
import { kubeconfigRow } from "../pki/kubeconfigs.ts";
import { examineServiceAccountKey } from "../pki/sa-keys.ts";
import { clientPemRow, kubeletRow } from "./kubelet-rows.ts";
import { type Assessment, isDamage, type Row } from "./report.ts";
import { caRow, findingRow, summary } from "./rows.ts";

interface Look {
  node: Node;
  dataDir: string;
  running: Container[] | Fail;
}

/** Reads only. Names in certificates are not judged: only etcd has the right ones. */
export async function assessWithoutData({ node, dataDir, running }: Look, found: WithoutData): Promise<Assessment> {
  const why = whyWithoutData(found, dataDir);
  const damage = [etcdRow(found, dataDir), ...fileRows(node, found), ...(await kubeletRow(node, running)), clientPemRow(node)];
  const damaged = damage.some(isDamage);
  return {
    node: node.name,
    role: "control plane",
    kubernetes: undefined,
    cluster: undefined,
    ca: clusterCaSeen(node),
    damage,
    survivors: [],
    damaged,
    verdict: damaged ? `parts 1 to 4 cannot begin here. ${why}` : `nothing is damaged on this node. ${why}`,
    next: damaged ? withoutDataSteps(found, node) : [],
  };
}

function etcdRow({ etcd, servers, from }: WithoutData, dataDir: string): Row {
  if (etcd !== "external") return { what: dataDir, state: "!MISSING!", detail: "etcd's data" };
  const detail = servers.length > 0 ? "by --etcd-servers" : `no trace of it beside ${from[0]}`;
  return { what: "etcd", state: "known", detail: `external: ${detail}` };
}

/** Of etcd's own files only those that such a node has. */
function fileRows(node: Node, { etcd, files }: WithoutData): Row[] {
  const rows = etcd === "external" ? CERTS.filter((row) => row.ca !== "etcd-ca" && row.name !== "etcd-ca") : CERTS;
  const certificatesDir = certificatesDirOn(node);
  const findings = rows.map((row) => ({ shared: row.shared, finding: examine(row, undefined, { certificatesDir }) }));
  const configs = ["admin", "controller-manager", "scheduler"].map((name) => examineKubeconfig(kubeconfigRow(name), undefined));
  return [
    ...findings.filter(({ shared }) => shared).map(({ finding }) => caRow(finding)),
    findingRow(examineServiceAccountKey(certificatesDir)),
    ...summary(
      "certificates",
      findings.filter(({ shared }) => !shared).map(({ finding }) => finding),
    ),
    ...(etcd === "external" ? files.filter((path) => !exists(path)) : []).map((what) =>
      missing(what, "the API server needs it to reach etcd"),
    ),
    ...summary("kubeconfigs", configs),
    ...CONTROL_PLANE.filter((name) => (name !== "etcd" || etcd !== "external") && !exists(manifestPath({ node }, name))).map((name) =>
      missing(`manifests/${name}.yaml`, "its mirror pod is in etcd, and etcd's data is not here"),
    ),
  ];
}

function missing(what: string, detail: string): Row {
  return { what, state: "!MISSING!", detail };
}
