#!/usr/bin/env bun
/**
 * RUNBOOK part 5: proof. Each chain from both ends, each node, each token. Reads only. On a control
 * plane node it looks at the whole cluster, on a worker at its kubelet. Run it at any time.
 */
import { adminClient } from "../shared/api/admin-api.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { type Check, type CheckRow, Checks } from "../shared/checks/check.ts";
import { endingsHere, forecast } from "../shared/checks/forecast.ts";
import { metricsText, refuseMetricsPlace, writeMetrics } from "../shared/checks/metrics.ts";
import { checksAsJson, hintOf, printChecks, tellSummary } from "../shared/checks/print-checks.ts";
import { untilGood } from "../shared/checks/until-good.ts";
import { etcdDataOf } from "../shared/etcd-home/etcd-place.ts";
import { askControlPlaneNode, type ControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { tokenKeys } from "../shared/facts/sa-key.ts";
import { attemptLater, Fail, Refused } from "../shared/fail.ts";
import { exists } from "../shared/files/files.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { backupMade } from "../shared/hand-over/backup-mark.ts";
import { type Node, readNode } from "../shared/node/node.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { oldSaKeys } from "../shared/pki/sa-keys.ts";
import { whatToWrite } from "../shared/report/write-down.ts";
import { answer, run, step, tell, VERSION } from "../shared/run.ts";
import { clusterChecks } from "../shared/verify/check-cluster.ts";
import { withoutDataCheck } from "../shared/verify/check-data.ts";
import { clockCheck, fileChecks } from "../shared/verify/check-files.ts";
import { kubeletChecks } from "../shared/verify/check-kubelet.ts";
import { nodeChecks, seenNodes } from "../shared/verify/check-nodes.ts";
import { podChecks } from "../shared/verify/check-pods.ts";
import { returnedChecks } from "../shared/verify/check-returned.ts";
import { serverChecks, withoutAdmin } from "../shared/verify/check-servers.ts";
import { type WrapUp, wrapUp, wrapUpText } from "../shared/verify/wrap-up.ts";

async function main() {
  const values = parse();
  if (values.help) return console.log(USAGE);
  if (values.metrics) refuseMetricsPlace(values.metrics);
  const write = whatToWrite(values);
  const node = await readNode();
  tell(`kube-pki-repair ${VERSION}   05-verify   reads only   node ${node.name}`);
  const look = () => lookAtAll(node, values["etcd-data"], write !== undefined);
  const found = await untilGood(await look(), look, Number(values.wait ?? 0));
  if (values.metrics) writeMetrics(values.metrics, metricsText({ node: node.name, ...found }));
  const end = await wrapUp(node, found.known?.cp);
  report(found.checks, values, end);
  if (end && !values.json) answer(`\n${wrapUpText(end)}`);
  const seen = { here: node.name, hostName: node.hostName, end, ...found };
  if (write) await writeDown(() => write(seen));
}

/** `mustEnd`: also where the cluster cannot be read: those who help just then need what is here. */
async function lookAtAll(node: Node, etcdData: string | undefined, mustEnd: boolean) {
  const checks = new Checks();
  await step("5.1 Check this node's kubelet", () => checks.add(kubeletChecks(node)));
  const place = await etcdDataOf(etcdData, { node });
  const known = exists(place.dir) ? await askControlPlaneNode(place, node) : undefined;
  const withoutData = withoutDataCheck(node, known, place.dir);
  if (withoutData) await checks.add([withoutData]);
  else if (known?.cp) await verifyControlPlane(checks, known.cp);
  else if (known?.obstacle && mustEnd) await checks.add([noLook(known.obstacle)]);
  else if (known?.obstacle) throw known.obstacle;
  const pki = known?.certificatesDir;
  const endings = endingsHere(node, pki);
  await checks.add(forecast(endings));
  return {
    ...{ checks: checks.all, endings, backup: pki ? backupMade(pki) : undefined },
    known,
  };
}

async function verifyControlPlane(checks: Checks, cp: ControlPlaneNode) {
  const admin = await attemptLater(() => adminClient(cp.facts));
  await step("5.2 Check this control plane node's files and servers", async () => {
    await checks.add([clockCheck(cp), ...fileChecks(cp)]);
    await checks.add(
      admin instanceof Fail ? [noAdmin(admin), withoutAdmin(cp)] : serverChecks(cp, admin),
    );
  });
  await step("5.3 Check the cluster's trust, tokens and nodes", async () => {
    if (!(admin instanceof Fail)) await checks.add([wholeCluster(checks, cp, admin)]);
  });
}

async function writeDown(write: () => Promise<void>) {
  await step("5.4 Write down what was done", write);
}

/** Fails where the API does not answer; the rows that were checked before count. */
function wholeCluster(checks: Checks, cp: ControlPlaneNode, api: KubeApi): CheckRow {
  const look = async () => {
    const pki = cp.facts.certificatesDir;
    const trust = {
      caPem: clusterCa(pki),
      saPub: cp.facts.externalSigner ? undefined : tokenKeys(cp),
      oldSaPub: oldSaKeys(pki).join(""),
    };
    await checks.add(clusterChecks(cp, api, trust));
    const nodes = await seenNodes(api);
    await checks.add(nodeChecks(cp, api, trust.caPem, nodes));
    await checks.add(returnedChecks(cp, api));
    await checks.add(podChecks(cp, api, trust.caPem, new Set(nodes.notRenewed)));
    return `${cp.cluster.nodes.length} nodes`;
  };
  return { id: "cluster-read", look };
}

function noLook(obstacle: Fail): CheckRow {
  const look = () => {
    throw obstacle;
  };
  return { id: "cluster-read", look };
}

/** What this kit cannot do is no damage of the cluster. */
function noAdmin(fail: Fail): CheckRow {
  const words = `${fail.message}; ${fail.hint}`;
  return {
    id: "admin-conf",
    look: () => (fail instanceof Refused ? { warning: words } : { failed: words }),
  };
}

function report(checks: readonly Check[], values: Values, repair: WrapUp | undefined) {
  if (values.json) answer(JSON.stringify({ ...checksAsJson(checks), repair }, null, 2));
  else printChecks(checks, { all: values.all, short: values.output === "short" });
  tellSummary(checks);
  const hint = hintOf(checks);
  if (!hint) return;
  tell(`hint: ${hint}`);
  process.exitCode = 2;
}

const USAGE = `Usage:
    ./bunw scripts/05-verify.ts [--output short|json] [--all] [--wait SECONDS]
                                [--metrics FILE.prom] [--report FILE.html]
                                [--bundle FILE.tar [--with-names]] [--logs DIR] [--etcd-data DIR]

Checks certificates, servers, nodes and tokens, from both ends. On a control plane node it checks
the whole cluster, on a worker its kubelet. Reads only. What is bad comes first, the worst on top:
how bad it is, what still works and until when, and the command that mends it. How bad:
    outage now   something does not work
    ends soon    it works until a date, or until something restarts
    weakens      it works; a spare, a protection or a tool is lacking
    note         good to know
After a repair it ends with what has changed, what is left for people, and what to delete on which
node.

Options:
    --all            Print every check, not only warnings and failures.
    --output WORD    short: one line for each. json: all checks, for programs, with a summary, the
                     version of these fields, and what a repair has changed and left.
    --json           The same as --output json.
    --wait SECONDS   Look again until nothing fails, or the time is over. It says for what it waits.
    --metrics FILE   Write the results for Prometheus (node_exporter's textfile collector): when
                     each certificate ends, what is bad, the age of the backup. The name of the
                     file ends in .prom.
    --report FILE    Write a page about the repair: what was broken, what each run did and changed
                     on which node, what is left for people. In one file, without a secret.
    --bundle FILE    Write a tar file for a colleague or an issue: transcripts, what 00-assess says
                     and all checks. No key and no token is in it; host names and addresses are
                     aliases.
    --with-names     Keep host names and addresses in the bundle.
    --logs DIR       Where the other nodes' transcripts are, one NODE.tar each: --report prints the
                     lines that bring them.
    --etcd-data DIR  etcd's data directory (default: found by itself).
    --help           Print this text.

On a terminal each line has a sign: √ good, ‼ warning, × failed. NO_COLOR=1 takes the colour away.

Exit codes: 0 nothing failed (there may be warnings), 1 could not look, 2 a check failed,
            3 refused: this is no node of a kubeadm cluster
`;

const OPTIONS = {
  all: { type: "boolean" },
  output: { type: "string", oneOf: ["short", "json"] },
  json: { type: "boolean" },
  wait: { type: "string", number: true },
  metrics: { type: "string", path: "public" },
  report: { type: "string", path: "written" },
  bundle: { type: "string", path: "written" },
  "with-names": { type: "boolean" },
  logs: { type: "string", path: "proved" },
  "etcd-data": { type: "string", path: "proved" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>;

function parse() {
  const { values } = parseOptions({ options: OPTIONS });
  return { ...values, json: values.json || values.output === "json" };
}

if (import.meta.main) await run(main);
