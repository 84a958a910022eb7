/** What has to be true before part 4 renews anything: the shared keys are here, part 3 is closed, and every node renews its Lease. */
import { adminApi } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nodeLeases } from "../api/leases.ts";
import { leftOut } from "../etcd/all-members.ts";
import { refuseStrangers } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { tokenKeys } from "../facts/sa-key.ts";
import { command } from "../facts/todo.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/reduced-controllers.ts";
import { certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { listed } from "../plain.ts";
import { retyped } from "../retyped.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { SigningTrust } from "./token-secrets.ts";

export interface Ready {
  api: KubeApi;
  trust: SigningTrust;
  /** Names of the nodes that are there. */
  nodes: string[];
  /** Names of the nodes that are left out. */
  without: string[];
}

/** Errors: Fail with the first thing that is not true, and what to do about it. */
export async function readyForPart4(cp: ControlPlaneNode, named: readonly string[]): Promise<Ready> {
  refuseStrangers(named, cp, { mayBeDeleted: true });
  const trust = trustHere(cp);
  refuseReduced(cp, named);
  const api = await adminApi(cp);
  const without = await leftOut(cp, named);
  const nodes = cp.cluster.nodes.map((node) => node.name).filter((name) => !without.includes(name));
  await refuseSilent(api, nodes, without);
  await refuseDeadNodes(api, without);
  say(`${nodes.length} of ${nodes.length} nodes renew their Lease; the controller-manager runs in full`);
  return { api, trust, nodes, without };
}

function trustHere(cp: ControlPlaneNode): SigningTrust {
  const { certificatesDir: pki, externalSigner } = cp.facts;
  const [caPem, saPub, saKey] = [caText(certRow("ca"), pki), ...["sa.pub", "sa.key"].map((file) => readText(`${pki}/${file}`))];
  if (caPem && externalSigner) {
    say("an external signer signs tokens: those in Secrets are left as they are, only the CA beside them is renewed");
    return { caPem };
  }
  if (caPem && saPub && saKey) return { caPem, saPub: tokenKeys(cp) ?? saPub, saKey };
  throw new Fail("The shared keys are not there", { hint: "parts 1 and 2 first: ./bunw scripts/00-assess.ts" });
}

function refuseReduced(cp: ControlPlaneNode, without: readonly string[]) {
  const controllerManager = readManifest(manifestPath(cp, "kube-controller-manager"));
  if (controllerManager && !isReduced(controllerManager)) return;
  throw new Fail(`The controller-manager is ${controllerManager ? "still reduced" : "not there"}`, {
    hint: `close part 3 first: ${command("03-workers close", without)}`,
  });
}

async function refuseSilent(api: KubeApi, nodes: readonly string[], without: readonly string[]) {
  const { notRenewed } = await nodeLeases(api, nodes);
  if (notRenewed.length === 0) return;
  throw new Fail(`${notRenewed.length} of ${nodes.length} nodes do not renew their Lease: ${listed(notRenewed)}`, {
    hint: `part 3 there first; nodes that stay away: ${retyped({ without: [...without, ...notRenewed] }, { of: "04-sa-tokens" })}`,
  });
}

/** A DaemonSet does not roll out past a node that is dead: its pod there counts as the one that may be missing. */
async function refuseDeadNodes(api: KubeApi, without: readonly string[]) {
  for (const name of without) {
    if (!(await api.find(`/api/v1/nodes/${name}`))) continue;
    throw new Fail(`The Node "${name}" is still there, and no DaemonSet can roll out past it`, {
      hint: shell`is it lost for good? kubectl --kubeconfig /etc/kubernetes/admin.conf delete node ${name}; then run this script again`,
    });
  }
}
