/**
 * What has to be true before part 4 renews anything: the shared keys are here, part 3 is closed, and every
 * node renews its Lease.
 */

import { again, command, type LeftOut, leftNames } from "../again.ts";
import { adminApi } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nodeLeases } from "../api/leases.ts";
import { leftOut } from "../etcd/all-members.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { containerEnd } from "../facts/ended-container.ts";
import { tokenKeys } from "../facts/sa-key.ts";
import { keepSaid, withWords } from "../facts/said.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/repair-changes.ts";
import { certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { saPubText } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { reallyOut } from "../workers/really-out.ts";
import type { SigningTrust } from "./token-secrets.ts";

export interface Ready {
  api: KubeApi;
  trust: SigningTrust;
  /** Names of the nodes that are there. */
  nodes: string[];
  /** Those that are left out. */
  out: LeftOut;
}

/** Errors: Fail with the first thing that is not true, and what to do about it. */
export async function readyForPart4(cp: ControlPlaneNode, typed: LeftOut): Promise<Ready> {
  const named = withWords(typed, cp, { mayBeDeleted: true });
  const trust = trustHere(cp);
  refuseReduced(cp);
  const api = await adminApi(cp, containerEnd(cp, "kube-apiserver"));
  const out = await reallyOut(cp, api, await leftOut(cp, named));
  const there = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const known = cp.cluster.nodes.map(({ name }) => name).filter((name) => there.has(name));
  const nodes = known.filter((name) => !leftNames(out).includes(name));
  await refuseSilent(api, nodes, trustedSince(cp));
  refuseDeadNodes(out.lost.filter((name) => there.has(name)));
  const away = known.filter((name) => out.without.includes(name));
  if (away.length > 0)
    say(`away: ${listed(away)}. What runs there is left as it is, and no rollout waits for it`);
  say(`${nodes.length} of ${known.length} nodes renew their Lease; the controller-manager runs in full`);
  keepSaid(cp);
  return { api, trust, nodes, out };
}

function trustHere(cp: ControlPlaneNode): SigningTrust {
  const { certificatesDir: pki, externalSigner, withoutSaPub } = cp.facts;
  const [caPem, saKey] = [caText(certRow("ca"), pki), readText(`${pki}/sa.key`)];
  const saPub = withoutSaPub ? saPubText(pki) : readText(`${pki}/sa.pub`);
  if (caPem && externalSigner) {
    say(
      "an external signer signs tokens: those in Secrets are left as they are, only the CA beside them is renewed",
    );
    return { caPem };
  }
  if (caPem && saPub && saKey) return { caPem, saPub: tokenKeys(cp) ?? saPub, saKey };
  throw new Fail("The shared keys are not there", {
    hint: "run parts 1 and 2 first: ./bunw scripts/00-assess.ts",
  });
}

function refuseReduced(cp: ControlPlaneNode) {
  const controllerManager = readManifest(manifestPath(cp, "kube-controller-manager"));
  if (controllerManager && !isReduced(controllerManager)) return;
  throw new Fail(`The controller-manager is ${controllerManager ? "still reduced" : "not there"}`, {
    hint: `close part 3 first: ${command("03-workers close")}`,
  });
}

async function refuseSilent(api: KubeApi, nodes: readonly string[], since: Date) {
  const { notRenewed, deaf } = await nodeLeases(api, nodes, { since });
  if (notRenewed.length === 0) return;
  const what = `${notRenewed.length} of ${nodes.length} nodes do not renew their Lease: ${listed(notRenewed)}`;
  if (deaf) throw new Fail(`${what}: ${deaf.message}`, { hint: deaf.hint });
  throw new Fail(what, {
    hint: `run part 3 there first. If they are away for now: ${again({ without: notRenewed }, { of: "04-sa-tokens" })}. If they are lost for good: --lost`,
  });
}

/** The pods of a node that is lost for good count for their controllers until its Node is gone. */
function refuseDeadNodes(names: readonly string[]) {
  if (names.length === 0) return;
  const one = `The Node "${names[0]}" is still there, and it is lost for good`;
  const all = `Nodes that are lost for good are still there: ${listed(names)}`;
  throw new Fail(names.length === 1 ? one : all, {
    hint: shell`kubectl --kubeconfig /etc/kubernetes/admin.conf delete node ${names}; then run the same line again`,
  });
}
