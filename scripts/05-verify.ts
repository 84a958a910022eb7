#!/usr/bin/env bun
/**
 * RUNBOOK part 5: proof. Each chain from both ends, each node, each token. Reads only. On a control
 * plane node it looks at the whole cluster, on a worker at its kubelet. Run it at any time.
 */
import { adminClient } from "../shared/api/admin-api.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { etcdDataOf } from "../shared/etcd-home/etcd-place.ts";
import {
  type ControlPlaneNode,
  lookAtControlPlaneNode,
  type PartialFacts,
} from "../shared/facts/control-plane-node.ts";
import {
  controlPlaneWithoutData,
  isNotKubeadms,
  type WithoutData,
  whyWithoutData,
} from "../shared/facts/no-etcd-data.ts";
import { attempt, Fail } from "../shared/fail.ts";
import { exists, readText } from "../shared/files/files.ts";
import { readNode } from "../shared/node/node.ts";
import { parseOptions } from "../shared/options.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { answer, run, step, tell, VERSION } from "../shared/run.ts";
import { clusterChecks } from "../shared/verify/check-cluster.ts";
import { clockCheck, fileChecks } from "../shared/verify/check-files.ts";
import { kubeletChecks } from "../shared/verify/check-kubelet.ts";
import { nodeChecks } from "../shared/verify/check-nodes.ts";
import { podChecks } from "../shared/verify/check-pods.ts";
import { returnedChecks } from "../shared/verify/check-returned.ts";
import { serverChecks } from "../shared/verify/check-servers.ts";
import { type Check, type CheckRow, Checks } from "../shared/verify/checks.ts";
import { wrapUp, wrapUpText } from "../shared/verify/wrap-up.ts";

async function main() {
  const { values } = parseOptions({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  const node = await readNode();
  tell(`kube-pki-repair ${VERSION}   05-verify   reads only   node ${node.name}`);

  const checks = new Checks();
  await step("5.1 Check this node's kubelet", () => checks.add(kubeletChecks(node)));
  const place = await etcdDataOf(values["etcd-data"], { node });
  const known = exists(place.dir) ? lookAtControlPlaneNode(place, node) : undefined;
  const withoutData = noParts(known) ?? controlPlaneWithoutData(node, place.dir);
  if (withoutData) await checks.add([noData(withoutData, place.dir)]);
  else if (known?.cp) await verifyControlPlane(checks, known.cp);
  else if (known?.obstacle) throw known.obstacle;
  report(checks.all, values);
  const end = await wrapUp(node, known?.cp);
  if (end && !values.json) answer(`\n${wrapUpText(end)}`);
}

async function verifyControlPlane(checks: Checks, cp: ControlPlaneNode) {
  const admin = attempt(() => adminClient(cp.facts));
  await step("5.2 Check this control plane node's files and servers", async () => {
    await checks.add([clockCheck(cp), ...fileChecks(cp)]);
    await checks.add(admin instanceof Fail ? [noAdmin(admin)] : serverChecks(cp, admin));
  });
  await step("5.3 Check the cluster's trust, tokens and nodes", async () => {
    if (!(admin instanceof Fail)) await checks.add([wholeCluster(checks, cp, admin)]);
  });
}

/** Fails where the API does not answer; the rows that were checked before count. */
function wholeCluster(checks: Checks, cp: ControlPlaneNode, api: KubeApi): CheckRow {
  const look = async () => {
    const pki = cp.facts.certificatesDir;
    const trust = {
      caPem: clusterCa(pki),
      saPub: cp.facts.externalSigner ? undefined : readText(`${pki}/sa.pub`)!,
    };
    await checks.add(clusterChecks(api, trust));
    await checks.add(nodeChecks(cp, api, trust.caPem));
    await checks.add(returnedChecks(cp, api));
    await checks.add(podChecks(cp, api, trust.caPem));
    return `${cp.cluster.nodes.length} nodes`;
  };
  return { area: "cluster", what: "can be looked at", look };
}

function noAdmin({ message, hint }: Fail): CheckRow {
  return { area: "API", what: "admin.conf", look: () => ({ failed: `${message}; ${hint}` }) };
}

/** etcd is not kubeadm's, so neither are its certificates. */
function noParts(known: PartialFacts | undefined): WithoutData | undefined {
  return known && isNotKubeadms(known.home) ? { etcd: known.home, from: [] } : undefined;
}

/** Only the kubelet was checked; where etcd is not kubeadm's, that is no damage. */
function noData(found: WithoutData, dataDir: string): CheckRow {
  const why = whyWithoutData(found, dataDir);
  const warning = `${why}; only this node's kubelet was checked`;
  const look = () => (isNotKubeadms(found.etcd) ? { warning } : { failed: why });
  return { area: "etcd", what: "data on this control plane node", look };
}

function report(
  checks: Check[],
  { all, json }: { all?: boolean | undefined; json?: boolean | undefined },
) {
  const count = (result: Check["result"]) =>
    checks.filter((check) => check.result === result).length;
  if (json) answer(JSON.stringify(checks, null, 2));
  else
    for (const check of checks)
      if (all || check.result !== "ok")
        answer(`  ${check.result.padEnd(8)} ${check.area}: ${check.what}: ${check.detail}`);
  const [warnings, failures] = [count("warning"), count("failed")];
  const verdict = failures > 0 ? `${failures} failed` : "all good";
  const known = warnings > 0 ? `, ${warnings} warning${warnings > 1 ? "s" : ""}` : "";
  tell(`\n${checks.length} checks, ${verdict}${known}`);
  if (failures > 0) {
    tell("hint: where no command is named: ./bunw scripts/00-assess.ts on that node prints it");
    process.exitCode = 2;
  }
}

const USAGE = `Usage:
    ./bunw scripts/05-verify.ts [--json] [--all] [--etcd-data DIR]

Checks certificates, servers, nodes and tokens, from both ends. On a control plane node it checks
the whole cluster, on a worker its kubelet. Reads only. After a repair it ends with what has
changed, what is left for people, and what to delete on which node.

Options:
    --all            Print every check, not only warnings and failures.
    --json           Print all checks as JSON.
    --etcd-data DIR  etcd's data directory (default: found by itself).
    --help           Print this text.

Exit codes: 0 nothing failed (there may be warnings), 1 could not look, 2 a check failed,
            3 refused: this is no node of a kubeadm cluster
`;

const OPTIONS = {
  all: { type: "boolean" },
  json: { type: "boolean" },
  "etcd-data": { type: "string", path: true },
  help: { type: "boolean" },
} as const;

if (import.meta.main) await run(main);
