/** Each of the three CAs is renewed alone, then all of them go back, and forth again: what restarts each time. */
import { certInfo } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { CA_NAMES, type CaName } from "../../../shared/renew/renewal.ts";
import type { Machine } from "../machine/machine.ts";
import { type Scenario, type Scene, startClock, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";
import { compareCas, endingIn, keepCas, readCa } from "./ca-ended.ts";

const RENEW = "./bunw scripts/renew-ca.ts";

export const caOneByOne: Scenario = {
  ...allLost,
  kubeletsRestart: true,
  name: "ca-one-by-one",
  title:
    "The front proxy's CA is renewed, then etcd's, then the cluster's; then all go back, and are renewed again",
  // no CA expires meanwhile
  profile: endingIn(60),
  lines: [
    {
      title: "One CA after the other",
      async run(scene) {
        await keepCas(scene);
        startClock(scene);
        for (const name of CA_NAMES) await renewAlone(scene, name);
      },
    },
    { title: "The way back, on every node", run: goBack },
    {
      title: "And forth again",
      async run(scene) {
        for (const node of scene.lab.nodes) await type(scene, node, RENEW);
        await type(scene, scene.lab.controlPlanes[0]!, "./bunw scripts/05-verify.ts --wait 120", {
          exit: [0, 2],
        });
      },
    },
    { title: "The renewed CAs are compared", run: compareCas },
  ],
};

/** What has read each of them once. */
const RESTARTS: Record<CaName, string[]> = {
  "front-proxy-ca": [],
  "etcd-ca": ["etcd", "kube-apiserver"],
  ca: ["kube-controller-manager", "kube-scheduler", "kubelet"],
};

async function renewAlone(scene: Scene, name: CaName) {
  const node = scene.lab.controlPlanes[0]!;
  const before = await running(node);
  await type(scene, node, `${RENEW} --only ${name}`);
  const after = await running(node);
  const gone = [...before].flatMap(([what, id]) => (after.get(what) === id ? [] : what)).sort();
  scene.checks.push({
    name: `${name} alone: what has read it restarts, and nothing else`,
    // who loses the API for a moment may end by itself
    ok:
      RESTARTS[name].every((one) => gone.includes(one)) &&
      (name === "etcd-ca" || gone.length === RESTARTS[name].length),
    detail: gone.join(", ") || "nothing",
  });
}

/** The control plane's containers by their names, and the kubelet's process. */
async function running(node: Machine): Promise<Map<string, string>> {
  const { stdout } = await node.run(["crictl", "ps", "-o", "json"]);
  const { containers } = JSON.parse(stdout) as { containers: { id: string; metadata: { name: string } }[] };
  const own = containers.filter(({ metadata }) => Object.values(RESTARTS).flat().includes(metadata.name));
  const kubelet = await node.run(["systemctl", "show", "-p", "MainPID", "--value", "kubelet"]);
  return new Map([
    ...own.map(({ id, metadata }): [string, string] => [metadata.name, id]),
    ["kubelet", kubelet.stdout.trim()],
  ]);
}

async function goBack(scene: Scene) {
  const old = await keepCas(scene);
  for (const node of scene.lab.nodes) await type(scene, node, `${RENEW} --undo`);
  const now = await Promise.all(CA_NAMES.map((name) => readCa(scene, certRow(name).file, 0)));
  const wrong = CA_NAMES.filter((name, i) => certInfo(now[i]!).pem !== certInfo(old.get(name)!).pem);
  scene.checks.push({
    name: "--undo brings every certificate back as it was",
    ok: wrong.length === 0,
    detail: wrong.join(", ") || "three of three",
  });
}
