/**
 * The same disaster, repaired with kubeadm by an expert: with a --config at hand, the controller-manager
 * reduced, the kubelets' old certificates out of the way. This is the time to beat. The checks show what it
 * leaves undone.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { apiServerPatch, ENDPOINT, initConfig, PATCHES, VIP } from "../machine/kubeadm-config.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { AUDIT_POLICY, USUAL } from "../machine/profile.ts";
import { controlPlaneSamples, note, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

const RECOVER = "/root/kubeadm-recover.yaml";
const NORMAL = "/root/kubeadm-normal.yaml";
const REDUCED = "*,bootstrapsigner,tokencleaner,-node-lifecycle-controller,-taint-eviction-controller";
const SHARED = ["ca", "front-proxy-ca", "etcd/ca"]
  .flatMap((ca) => [`${ca}.crt`, `${ca}.key`])
  .concat("sa.key", "sa.pub");

export const byKubeadm: Scenario = {
  ...haAllLost,
  name: "by-kubeadm",
  title: "As ha-all-lost; an expert repairs the cluster with kubeadm, by hand",
  byRunbook: false,
  commandsMayFail: true,
  lines: [
    ...everythingDeleted,
    { title: "The last container of the old control plane ends", run: oldContainersGone },
    { title: "The expert has kubeadm's configuration at hand", run: putConfigs },
    { title: "The expert repairs certificates, etcd and the control planes", run: bringUp },
    { title: "The expert publishes the new CA", run: publish },
    { title: "The workers join again", run: workers },
    { title: "The expert renews tokens and restarts pods", run: tokensAndPods },
    { title: "The controller-manager runs in full again", run: runInFull },
  ],
};

/**
 * A kubelet that is restarted earlier waits for the old API server's slow end: that would not be fair to this
 * way.
 */
async function oldContainersGone(scene: Scene) {
  const gone = async () => (await Promise.all(scene.lab.controlPlanes.map(staticPods))).flat().length === 0;
  await sayAndWait(scene, "the old static pods to be gone", gone, {
    seconds: 120,
    hint: "crictl ps on the control plane nodes",
  });
}

async function staticPods(node: Machine) {
  const { stdout } = await node.run(["crictl", "ps", "-o", "json"]);
  const { containers } = JSON.parse(stdout) as { containers: { metadata: { name: string } }[] };
  return containers.filter(({ metadata }) =>
    /^(etcd|kube-(apiserver|controller-manager|scheduler))$/.test(metadata.name),
  );
}

async function putConfigs({ lab }: Scene) {
  for (const node of lab.controlPlanes) {
    writeFileSync(node.path(RECOVER), initConfig(node, USUAL, { controllers: REDUCED }));
    writeFileSync(node.path(NORMAL), initConfig(node, USUAL));
    writeFileSync(node.path("/root/audit-policy.yaml"), AUDIT_POLICY);
    if (node === lab.controlPlanes[0]) writeFileSync(node.path("/root/kube-vip.yaml"), VIP);
    mkdirSync(node.path(PATCHES));
    writeFileSync(node.path(`${PATCHES}/kube-apiserver+json.yaml`), apiServerPatch(USUAL));
  }
}

async function bringUp(scene: Scene) {
  const [first, ...others] = scene.lab.controlPlanes as [Machine, ...Machine[]];
  const run = (node: Machine, command: string) => type(scene, node, command, { part: 1, cwd: "/root" });
  const phases = (list: string[]) =>
    list.map((phase) => `kubeadm init phase ${phase} --config ${RECOVER}`).join(" && ");
  await run(first, phases(["certs all"]));
  for (const node of others) await copyShared(first, node);
  const rest = phases(["certs all", "kubeconfig all", "etcd local", "control-plane all"]);
  for (const node of scene.lab.controlPlanes)
    await run(
      node,
      `cp audit-policy.yaml /etc/kubernetes/ && ${rest} ${node === first ? "&& cp kube-vip.yaml /etc/kubernetes/manifests/ " : ""}&& rm -f /var/lib/kubelet/pki/kubelet-client-* && systemctl restart kubelet`,
    );
}

async function copyShared(from: Machine, to: Machine) {
  const { stdout } = await from.run([
    "bash",
    "-c",
    `tar -C /etc/kubernetes/pki -cz ${SHARED.join(" ")} | base64 -w0`,
  ]);
  await to.run(["bash", "-c", "mkdir -p /etc/kubernetes/pki && base64 -d | tar -C /etc/kubernetes/pki -xz"], {
    input: stdout,
  });
}

async function publish(scene: Scene) {
  const first = scene.lab.controlPlanes[0]!;
  const ready = () => controlPlaneSamples(scene).every((samples) => samples.at(-1)?.api);
  await sayAndWait(scene, "the API on every control plane node", ready, {
    seconds: 180,
    hint: "crictl ps -a on the control plane nodes",
  });
  note(scene, "the API is ready on every control plane node");
  const admin = "--kubeconfig /etc/kubernetes/admin.conf";
  await type(
    scene,
    first,
    `kubectl ${admin} -n kube-public delete configmap cluster-info && kubeadm init phase bootstrap-token --config ${RECOVER}`,
    { part: 2, mayHoldToken: true, cwd: "/root" },
  );
  const isNew = async () => {
    const { stdout } = await kubectl(scene.lab, [
      "get",
      "configmap",
      "kube-root-ca.crt",
      "-o",
      "jsonpath={.data.ca\\.crt}",
    ]);
    return stdout.trim() === (await first.run(["cat", "/etc/kubernetes/pki/ca.crt"])).stdout.trim();
  };
  await sayAndWait(scene, "kube-root-ca.crt", isNew, {
    seconds: 120,
    hint: "does the controller-manager lead?",
  });
  note(scene, "kube-root-ca.crt is new");
}

async function workers(scene: Scene) {
  const first = scene.lab.controlPlanes[0]!;
  const { raw } = await type(scene, first, "kubeadm token create --ttl 1h", {
    part: 3,
    mayHoldToken: true,
    cwd: "/root",
  });
  const token = raw.trim().split("\n").at(-1);
  const ca = (await first.run(["cat", "/etc/kubernetes/pki/ca.crt"])).stdout;
  if (!token || !ca) throw new Fail("There is no token, or no CA", { hint: "see what kubeadm printed" });
  for (const node of scene.lab.workers) {
    await node.run(["bash", "-c", "mkdir -p /etc/kubernetes/pki && cat > /etc/kubernetes/pki/ca.crt"], {
      input: ca,
    });
    await node.run(["bash", "-c", "umask 077; cat > /etc/kubernetes/bootstrap-kubelet.conf"], {
      input: bootstrapKubeconfig(ca, token),
    });
    await type(
      scene,
      node,
      "rm -f /etc/kubernetes/kubelet.conf /var/lib/kubelet/pki/kubelet-client-*; systemctl restart kubelet",
      {
        part: 3,
      },
    );
  }
}

function bootstrapKubeconfig(ca: string, token: string) {
  const cluster = {
    server: `https://${ENDPOINT}`,
    "certificate-authority-data": Buffer.from(ca).toString("base64"),
  };
  return JSON.stringify({
    ...{ apiVersion: "v1", kind: "Config", "current-context": "x" },
    clusters: [{ name: "c", cluster }],
    users: [{ name: "u", user: { token } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
  });
}

async function tokensAndPods(scene: Scene) {
  const admin = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
  const run = (command: string) => type(scene, scene.lab.controlPlanes[0]!, command, { part: 4 });
  const secrets = `${admin} get secrets -A --field-selector type=kubernetes.io/service-account-token --no-headers`;
  await run(
    `${secrets} | while read ns name rest; do ${admin} -n $ns patch secret $name -p '{"data":{"token":null}}'; done`,
  );
  await run(`${admin} -n kube-system delete pod -l 'k8s-app in (kube-proxy,kube-dns)' --wait=false`);
  for (const namespace of ["shop", "bank"])
    await run(`${admin} -n ${namespace} delete pod -l app=asker-cached --wait=false`);
  const allRun = async () =>
    (await kubectl(scene.lab, ["get", "pods", "-A", "--no-headers"])).stdout
      .split("\n")
      .filter(Boolean)
      .every((line) => / (\d+)\/\1 +Running /.test(line));
  await sayAndWait(scene, "every pod to run", allRun, { seconds: 120, hint: "kubectl get pods -A" });
}

async function runInFull(scene: Scene) {
  for (const node of scene.lab.controlPlanes)
    await type(scene, node, `kubeadm init phase control-plane controller-manager --config ${NORMAL}`, {
      part: 4,
      cwd: "/root",
    });
}
