/**
 * One of three control plane nodes loses its disk's data. The same machine joins again, and is then what it
 * was.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { flatten } from "../report/snapshot.ts";
import {
  deleteNode,
  joinByPrinted,
  putBackByPrinted,
  untilAsBefore,
  whatPart2Printed,
} from "../scene/replace.ts";
import { controlPlaneSamples, damage, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { haAllLost } from "./several-control-planes.ts";

const FLAG = "--max-pods=55";
const FLAGS_FILE = "/var/lib/kubelet/kubeadm-flags.env";
const MARKS = {
  label: "disk=nvme",
  taint: "storage=only:NoSchedule",
  annotate: "example.org/owner='the night shift'",
};

export const haSameMachineBack: Scenario = {
  ...haAllLost,
  name: "ha-same-machine-back",
  title:
    "One of three control plane nodes loses /etc/kubernetes and etcd's data; the same machine joins again, with all that was its own",
  machinesFail: true,
  lines: [
    {
      title: "The third control plane node has a label, a taint, an annotation and a kubelet flag of its own",
      run: giveMarks,
    },
    { title: "Its /etc/kubernetes and its etcd data are deleted", run: lose },
    { title: "The operator leaves it out, by 02-control-plane --lost", run: leaveOut },
    { title: "The operator empties it, and joins it again, by what is printed", run: joinAgain },
    {
      title: "The operator puts back what 05-verify and part 2 name",
      run: (scene) => putBackByPrinted(scene, [third(scene)]),
    },
    { title: "05-verify finds nothing changed", run: untilAsBefore },
    { title: "It is what it was", run: compareWithBefore },
  ],
};

/** What it was: flags of its kubelet, marks of its Node, its manifests. */
let was: Awaited<ReturnType<typeof look>>;

function third({ lab }: Scene): Machine {
  return lab.controlPlanes[2]!;
}

async function giveMarks(scene: Scene) {
  const node = third(scene);
  for (const [verb, mark] of Object.entries(MARKS))
    await sh(
      scene.lab.controlPlanes[0]!,
      `kubectl --kubeconfig /etc/kubernetes/admin.conf ${verb} node ${node.nodeName} ${mark}`,
    );
  await sh(node, `sed -i 's/"$/ ${FLAG}"/' ${FLAGS_FILE} && systemctl restart kubelet`);
  const hasFlag = async () => (await look(scene)).pods === "55";
  await sayAndWait(scene, "its kubelet to run with the flag", hasFlag, {
    seconds: 60,
    hint: "journalctl -u kubelet on cp3",
  });
  was = await look(scene);
}

async function look(scene: Scene) {
  const node = third(scene);
  const { stdout } = await kubectl(scene.lab, ["get", "node", node.nodeName, "-o", "json"]);
  const { metadata, spec, status } = JSON.parse(stdout);
  const names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
  const manifests = names.map((name) =>
    readFileSync(node.path(`/etc/kubernetes/manifests/${name}.yaml`), "utf8"),
  );
  return {
    pods: status.capacity.pods as string,
    flags: readFileSync(node.path(FLAGS_FILE), "utf8")
      .replace(/^.*?"|"\s*$/g, "")
      .split(" ")
      .sort()
      .join(" "),
    labels: flatten(metadata.labels).join(" "),
    owner: metadata.annotations["example.org/owner"] as string,
    // node.kubernetes.io/… is the controller-manager's: it comes and goes with the kubelet's heartbeat
    taints: JSON.stringify(
      (spec.taints as Taint[])
        .filter(({ key }) => !key.startsWith("node.kubernetes.io/"))
        .map(taintText)
        .sort(),
    ),
    manifests: manifests.map((text) => flatten(parse(text)).join("\n")).join("\n"),
  };
}

type Taint = Record<"key" | "effect", string> & { value?: string };

function taintText({ key, value = "", effect }: Taint): string {
  return `${key}=${value}:${effect}`;
}

async function lose(scene: Scene) {
  await damage(scene, [third(scene)], "rm -rf /etc/kubernetes /var/lib/etcd");
  const gone = () =>
    controlPlaneSamples(scene)[2]?.at(-1)?.api === false &&
    controlPlaneSamples(scene)[2]?.at(-1)?.etcd === false;
  await sayAndWait(scene, "its API server and its etcd to stop", gone, {
    seconds: 120,
    hint: "systemctl status kubelet on cp3",
  });
}

async function leaveOut(scene: Scene) {
  const { lab } = scene;
  await type(
    scene,
    lab.controlPlanes[0]!,
    `./bunw scripts/02-control-plane.ts --lost ${third(scene).nodeName}`,
    { part: 2 },
  );
  await deleteNode(scene);
}

async function joinAgain(scene: Scene) {
  const node = third(scene);
  scene.replaced.push(node.name);
  await type(scene, node, whatPart2Printed(scene, "./bunw scripts/join-again.ts"));
  await type(scene, node, whatPart2Printed(scene, "kubeadm reset"), { cwd: "/root" });
  await joinByPrinted(scene, node, "kubeadm join --config");
}

async function compareWithBefore(scene: Scene) {
  const is = await look(scene);
  for (const what of Object.keys(was) as (keyof typeof was)[]) {
    const [before, now] = [was[what], is[what]];
    scene.checks.push({
      name: `cp3's ${what} are as before`,
      ok: now === before,
      detail: now === before ? "equal" : `${now}, was ${before}`,
    });
  }
  const said = scene.steps.findLast(({ command }) => command.includes("05-verify"))?.stdout ?? "";
  const members = /etcd: members: (.*)/.exec(said)?.[1] ?? "05-verify does not say";
  scene.checks.push({ name: "etcd has 3 members", ok: members.split(", ").length === 3, detail: members });
}
