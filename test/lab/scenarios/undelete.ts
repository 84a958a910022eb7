import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import { kubectl } from "../machine/machine.ts";
import { NAMESPACES } from "../machine/workloads.ts";
import { takeSnapshot } from "../report/snapshot.ts";
import { followGuide } from "../scene/follow-repair.ts";
import {
  controlPlaneGone,
  controlPlaneSamples,
  note,
  type Scenario,
  type Scene,
  sayAndWait,
  startClock,
  workloadsLeft,
} from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const FOLDER = "/etc/kubernetes/encryption";
const STATIC_PODS = /^kube-system\/(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)-/;
const CONFIG = `${FOLDER}/config.yaml`;

/**
 * Everything is deleted and no process is left: the keys and the encryption configuration are only in the
 * disk's free blocks.
 */
export const undelete: Scenario = {
  ...allLost,
  name: "undelete",
  title:
    "/etc/kubernetes is deleted on the control plane node, no process is left, Secrets are encrypted; RUNBOOK.md with the files from free blocks",
  ownDisk: true,
  oldKeys: true,
  lines: [
    { title: "The cluster encrypts Secrets at rest", run: encrypt },
    { title: "Everything below /etc/kubernetes is deleted on the control plane node", run: deleteAll },
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followGuide(scene, ["salvage", "new-internal-cas"], { deep: true }),
    },
    { title: "The encryption configuration is looked at", run: look },
  ],
};

/**
 * As in the Kubernetes guide: a configuration, a flag and a volume in the manifest, then every Secret is
 * written again.
 */
async function encrypt(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  const keys = [{ name: "key1", secret: randomBytes(32).toString("base64") }];
  const resources = [{ resources: ["secrets"], providers: [{ aescbc: { keys } }, { identity: {} }] }];
  mkdirSync(node.path(FOLDER), { mode: 0o700 });
  const config = { apiVersion: "apiserver.config.k8s.io/v1", kind: "EncryptionConfiguration", resources };
  writeFileSync(node.path(CONFIG), stringify(config), { mode: 0o600 });
  const path = node.path("/etc/kubernetes/manifests/kube-apiserver.yaml");
  writeFileSync(path, withEncryption(readFileSync(path, "utf8")));
  const encrypts = async () => {
    const { stdout } = await kubectl(scene.lab, [
      "-n",
      "kube-system",
      "get",
      "pods",
      "-l",
      "component=kube-apiserver",
      "-o",
      "json",
    ]);
    const [pod] = (JSON.parse(stdout) as { items: { spec: { containers: { command: string[] }[] } }[] })
      .items;
    return (
      pod?.spec.containers[0]?.command.some((word) => word.includes(CONFIG)) &&
      (await kubectl(scene.lab, ["get", "--raw", "/readyz"])).exitCode === 0
    );
  };
  await sayAndWait(scene, "the API server to encrypt", encrypts, {
    seconds: 180,
    hint: "crictl ps -a --name kube-apiserver",
  });
  for (const namespace of NAMESPACES) {
    const { stdout } = await kubectl(scene.lab, ["-n", namespace, "get", "secrets", "-o", "json"]);
    await kubectl(scene.lab, ["replace", "-f", "-"], stdout);
  }
  scene.before = await takeSnapshot(scene.lab);
  await node.run(["sync"]);
  note(scene, "the API server encrypts Secrets");
}

function withEncryption(yaml: string): string {
  const manifest = parse(yaml);
  const [container] = manifest.spec.containers;
  container.command.push(`--encryption-provider-config=${CONFIG}`);
  container.volumeMounts.push({ name: "encryption", mountPath: FOLDER, readOnly: true });
  manifest.spec.volumes.push({ name: "encryption", hostPath: { path: FOLDER, type: "DirectoryOrCreate" } });
  return stringify(manifest);
}

/** The folder itself is a mount point and stays. */
async function deleteAll(scene: Scene) {
  startClock(scene);
  await scene.lab.controlPlanes[0]!.run(["bash", "-c", "rm -rf /etc/kubernetes/* && sync"]);
  note(scene, "rm -rf /etc/kubernetes/* on cp1", "", scene.zero);
  await controlPlaneGone(scene);
  await processesGone(scene);
  note(scene, "the control plane is gone", workloadsLeft(scene));
}

/**
 * An API server that answers no more may still drain its connections. By its container: a tenant's process
 * may have its name.
 */
async function processesGone(scene: Scene) {
  const none = () => {
    const running = controlPlaneSamples(scene)[0]!.findLast((sample) => sample.containers)?.containers;
    return running && !Object.values(running).some((name) => STATIC_PODS.test(name));
  };
  await sayAndWait(scene, "the last static pod to end", none, {
    seconds: 120,
    hint: "journalctl -u kubelet, with --keep",
  });
}

async function look(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  const { stdout } = await node.run(["bash", "-c", `grep -c secret: ${CONFIG}; stat -c %a ${CONFIG}`]);
  scene.checks.push({
    name: "the encryption configuration is back, for root alone",
    ok: stdout === "1\n600\n",
    detail: stdout.trim().replace("\n", ", mode "),
  });
}
