/**
 * The article followed to the letter (shulou.com, "How to repair Kubernetes cluster certificates after they
 * are all deleted") on the same deletion: its commands, in its order, without --config, as it prints them.
 * Two things are not in the article: we wait until a command can work at all, and we try a refused command a
 * second time. A command that does not end is killed, and counts as hung.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import {
  controlPlaneGone,
  controlPlaneSamples,
  deleteKubernetes,
  note,
  type Scenario,
  type Scene,
  sayAndWait,
  type,
  workloadsLeft,
} from "../scene/scene.ts";

export const article: Scenario = {
  name: "article",
  title: "As all-lost; the operator follows the article instead, to the letter",
  controlPlanes: 1,
  workers: 1,
  byRunbook: false,
  commandsMayFail: true,
  lines: [
    {
      title: "/etc/kubernetes is deleted on every node",
      run: (scene) => deleteKubernetes(scene, scene.lab.nodes),
    },
    { title: "The control plane stops", run: controlPlaneStops },
    { title: "The operator repairs etcd", run: repairEtcd },
    { title: "The operator repairs the control plane", run: repairControlPlane },
    { title: "The control plane node's kubelet joins again", run: rejoinControlPlane },
    { title: "The worker joins again", run: rejoinWorker },
    { title: "The operator stops the controller-manager and starts it again", run: toggleControllerManager },
    { title: "The operator approves every CSR", run: approve },
    { title: "The operator repairs the service accounts", run: repairServiceAccounts },
  ],
};

/** Seconds after which a command of the article is killed; `kubeadm join` gives up by itself after 300. */
const PATIENCE = 330;

/** The parts of our runbook, so that both timelines can be compared. */
const ETCD = 1;
const CONTROL_PLANE = 2;
const WORKERS = 3;
const SERVICE_ACCOUNTS = 4;

async function controlPlaneStops(scene: Scene) {
  await controlPlaneGone(scene);
  note(scene, "the control plane is gone", workloadsLeft(scene));
}

export async function repairEtcd(scene: Scene) {
  const run = onControlPlane(scene, ETCD);
  await run("crictl rm `crictl ps -aq`");
  await run("kubeadm init phase certs etcd-ca");
  for (const phase of ["certs etcd-healthcheck-client", "certs etcd-peer", "certs etcd-server", "etcd local"])
    await run(`kubeadm init phase ${phase}`);
  await waitPatiently(scene, "etcd", "etcd runs", () => controlPlaneSamples(scene)[0]?.at(-1)?.etcd === true);
  await run("crictl ps");
}

export async function repairControlPlane(scene: Scene) {
  const run = onControlPlane(scene, CONTROL_PLANE);
  for (const phase of ["certs all", "kubeconfig all", "control-plane all"])
    await run(`kubeadm init phase ${phase}`);
  await run("mkdir -p ~/.kube; cp -f /etc/kubernetes/admin.conf ~/.kube/config");
  await waitPatiently(
    scene,
    "API",
    "the API is ready",
    () => controlPlaneSamples(scene)[0]?.at(-1)?.api === true,
  );
  await run("kubeadm init phase bootstrap-token");
  await run("kubectl get nodes");
}

async function rejoinControlPlane(scene: Scene) {
  const run = onControlPlane(scene, WORKERS);
  await run("systemctl stop kubelet; rm -rf /var/lib/kubelet/pki/ /etc/kubernetes/kubelet.conf");
  await run("kubeadm init phase kubeconfig kubelet");
  await run("kubeadm init phase kubelet-start");
}

async function rejoinWorker(scene: Scene) {
  const worker = scene.lab.workers[0]!;
  const { raw } = await onControlPlane(scene, WORKERS)("kubeadm token create --print-join-command", true);
  const line = raw.split("\n").find((text) => text.startsWith("kubeadm join "));
  if (!line) return note(scene, "no join command was printed", "the worker does not join");
  const run = (command: string) =>
    type(scene, worker, command, { part: WORKERS, seconds: PATIENCE, cwd: "/root", mayHoldToken: true });
  await run(
    "systemctl stop kubelet; rm -rf /var/lib/kubelet/pki/ /etc/kubernetes/pki/ /etc/kubernetes/kubelet.conf",
  );
  const join = line.trim().replace("kubeadm join ", "kubeadm join phase kubelet-start ");
  if ((await run(join)).ok) return;
  await waitPatiently(scene, "the worker to be NotReady", "the worker is NotReady", () =>
    notReady(scene, worker),
  );
  await run(join);
}

function notReady(scene: Scene, worker: Machine) {
  const nodes = controlPlaneSamples(scene)[0]?.findLast((sample) => sample.nodes)?.nodes;
  return nodes?.some((node) => node.name === worker.nodeName && !node.ready) ?? false;
}

async function toggleControllerManager(scene: Scene) {
  const run = onControlPlane(scene, WORKERS);
  await run(
    "rm /etc/kubernetes/manifests/kube-controller-manager.yaml; crictl rmp `crictl ps --name kube-controller-manager -q`",
  );
  await run("kubeadm init phase control-plane controller-manager");
}

async function approve(scene: Scene) {
  const run = onControlPlane(scene, WORKERS);
  await run("kubectl get csr");
  await run("kubectl certificate approve $(kubectl get csr -o name | cut -d/ -f2)");
}

/**
 * As printed. If awk and sh lose its quotes, a second time with the quotes mended, as somebody who knows
 * kubectl would type it.
 */
const ONE_LINER = String.raw`kubectl get secret --all-namespaces | awk '/kubernetes.io\/service-account-token/ { print "kubectl patch secret -n " $1 " " $2 " -p {\\\"data\\\":{\\\"token\\\":null}}"}' | sh -x`;
const MENDED = String.raw`kubectl get secret --all-namespaces | awk '/kubernetes.io\/service-account-token/ { print "kubectl patch secret -n " $1 " " $2 " -p \"{\\\"data\\\":{\\\"token\\\":null}}\""}' | sh -x`;
const DELETE_PODS = `kubectl get pod --field-selector 'spec.serviceAccountName!=default' --no-headers --all-namespaces | awk '$1 == "kube-system" {print "kubectl delete pod -n " $1 " " $2 " --wait=false --grace-period=0"}' | sh -x`;

async function repairServiceAccounts(scene: Scene) {
  const run = onControlPlane(scene, SERVICE_ACCOUNTS);
  if (!(await run(`set -o pipefail; ${ONE_LINER}`)).ok) await run(`set -o pipefail; ${MENDED}`);
  await run(DELETE_PODS);
  note(scene, "the article ends here", workloadsLeft(scene));
}

function onControlPlane(scene: Scene, part: number) {
  return (command: string, mayHoldToken = false) =>
    type(scene, scene.lab.controlPlanes[0]!, command, {
      part,
      seconds: PATIENCE,
      cwd: "/root",
      mayHoldToken,
    });
}

/** Waits as a patient person would. If it never comes, that is a result, not an error. */
async function waitPatiently(scene: Scene, what: string, done: string, condition: () => boolean) {
  try {
    await sayAndWait(scene, what, condition, {
      seconds: 180,
      hint: "none: the article says nothing about it",
    });
    note(scene, done);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    note(scene, `still waiting for ${what} after 180 s`, "the article goes on, too");
  }
}
