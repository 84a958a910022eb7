/**
 * The article's disaster on a cluster with workloads that no script can restart, or only in its own way: none
 * of them stops the others.
 */

import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import { list } from "../report/snapshot.ts";
import { BUSY, busyObjects, POLICY, task, webhook } from "../scene/busy-objects.ts";
import { drilled } from "../scene/drilled.ts";
import { followRunbook } from "../scene/follow.ts";
import { note, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

const PART_4 = "./bunw scripts/04-sa-tokens.ts";

async function must(lab: Lab, args: string[], objects: object[] = []): Promise<string> {
  const input =
    objects.length > 0 ? JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }) : undefined;
  const { exitCode, stdout, stderr } = await kubectl(lab, args, input);
  if (exitCode !== 0)
    throw new Fail(`kubectl ${args.join(" ")}: ${stderr.trim()}`, {
      hint: "look at the cluster with --keep",
    });
  return stdout;
}

type Pods = Map<string, { uid: string; revision: string }>;

/** The pods of the two namespaces, by name, without those that are about to end. */
async function podsOf(lab: Lab): Promise<Pods> {
  const all = (await list(lab, "pods")).filter(
    ({ metadata }) => [BUSY, POLICY].includes(metadata.namespace ?? "") && !metadata.deletionTimestamp,
  );
  return new Map(
    all.map(({ metadata }) => [
      metadata.name,
      { uid: metadata.uid ?? "", revision: metadata.labels?.["controller-revision-hash"] ?? "" },
    ]),
  );
}

let before: Pods = new Map();

async function layOut(scene: Scene) {
  const { lab } = scene;
  const { server, configuration } = await webhook();
  await must(lab, ["apply", "-f", "-"], [...busyObjects(), ...server]);
  const uid = await must(lab, ["-n", BUSY, "get", "configmap", "workflow", "-o", "jsonpath={.metadata.uid}"]);
  await must(lab, ["create", "-f", "-"], [task(uid)]);
  const ready = async () => {
    const waits = [BUSY, POLICY].map((namespace) =>
      kubectl(lab, ["-n", namespace, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=5s"]),
    );
    return (
      (await podsOf(lab)).size === 7 && (await Promise.all(waits)).every(({ exitCode }) => exitCode === 0)
    );
  };
  await sayAndWait(scene, "the busy workloads to be Ready", ready, {
    seconds: 120,
    hint: "kubectl get pods -A, with --keep",
  });
  await must(lab, ["-n", BUSY, "rollout", "pause", "deployment/paused"]);
  await must(lab, ["apply", "-f", "-"], [configuration]);
  before = await podsOf(lab);
  note(scene, "the cluster is busy", [...before.keys()].join(", "));
}

/** Since when each container runs, by its namespace and pod; a pod that is new has another UID. */
async function startsOf(lab: Lab): Promise<Map<string, string>> {
  const pods = (await list(lab, "pods")) as RunningPod[];
  return new Map(
    pods.map(({ metadata, status }) => {
      const starts = (status?.containerStatuses ?? []).map(({ state }) => state?.running?.startedAt);
      return [`${metadata.namespace}/${metadata.name}`, [metadata.uid, ...starts].join(" ")];
    }),
  );
}

/** Pods of these namespaces that are not as they were. */
function changedIn(
  namespaces: (name: string) => boolean,
  was: Map<string, string>,
  now: Map<string, string>,
): string[] {
  return [...was.keys()].filter((pod) => namespaces(pod.split("/")[0]!) && was.get(pod) !== now.get(pod));
}

/**
 * kube-system first, then one namespace: no pod of another namespace restarts, and part 5 knows what is left.
 */
async function byTurns(scene: Scene, cp: Machine) {
  const start = await startsOf(scene.lab);
  const isOther = (name: string) => name !== "kube-system";
  const { stderr: system } = await type(scene, cp, `${PART_4} --only-system`, { part: 4 });
  const afterSystem = await startsOf(scene.lab);
  const early = changedIn(isOther, start, afterSystem);
  question(
    scene,
    "--only-system restarts no pod of another namespace",
    early.length === 0,
    early.join(", ") || `${start.size} pods`,
  );
  const proxies = changedIn((name) => name === "kube-system", start, afterSystem).filter((pod) =>
    pod.includes("/kube-proxy-"),
  );
  const kept = [...afterSystem.keys()].filter((pod) => pod.includes("/kube-proxy-") && start.has(pod));
  question(
    scene,
    "--only-system restarts kube-proxy everywhere",
    proxies.length > 0 && kept.length === 0,
    proxies.join(", "),
  );
  const { stdout } = await type(scene, cp, "./bunw scripts/05-verify.ts", { part: 4, exit: [2] });
  const row = stdout.split("\n").find((line) => line.includes("pods: older than the current CA")) ?? "";
  const named =
    [BUSY, POLICY, "shop"].every((namespace) => row.includes(` ${namespace}/`)) &&
    !row.includes("kube-system/");
  question(
    scene,
    "part 5 names what is left, by namespace, and the next command",
    named && stdout.includes("--namespace NAME ("),
    row.trim(),
  );
  question(
    scene,
    "--only-system says that it is not finished",
    system.includes("done for now: "),
    system.trim().split("\n").at(-1)!,
  );
  await type(scene, cp, `${PART_4} --namespace shop`, { part: 4 });
  const afterShop = await startsOf(scene.lab);
  const others = changedIn((name) => isOther(name) && name !== "shop", start, afterShop);
  const shop = changedIn((name) => name === "shop", start, afterShop);
  question(
    scene,
    "--namespace shop restarts shop and nothing else",
    others.length === 0 && shop.length > 0,
    [...others, ...shop].join(", "),
  );
}

/** Part 4 leaves two workloads; the operator does what it says for each, and runs it again. */
async function part4(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  const opened =
    scene.steps.find(({ command }) => command.startsWith("./bunw scripts/03-workers.ts open"))?.stderr ?? "";
  await byTurns(scene, cp);
  const { stderr } = await type(scene, cp, PART_4, { part: 4, exit: [1] });
  const left = stderr
    .split("\n")
    .filter((line) => line.startsWith(`  - ${BUSY}/`) && line.includes("still trusts the old CA"));
  const names = left.map((line) => /- (\S+)/.exec(line)![1]).sort();
  const now = await podsOf(scene.lab);
  const kept = ["task", ...[...before.keys()].filter((name) => /^(paused|guarded)-/.test(name))];
  const isNew = (name: string) => now.get(name)?.uid !== before.get(name)?.uid;
  const split = ["split-0", "split-1"];
  question(
    scene,
    "open does not wait for the namespace whose webhook is deaf, and names both",
    /but .*busy.*/.test(opened) && opened.includes("hook.policy.example"),
    reasonOf(opened),
  );
  question(
    scene,
    "part 4 leaves what it cannot restart, and what runs to its end, to the operator",
    names.join() === `${BUSY}/guarded,${BUSY}/paused,${BUSY}/task`,
    left.join("; "),
  );
  question(
    scene,
    "these pods are the same as before",
    kept.every((name) => now.has(name) && !isNew(name)),
    kept.join(", "),
  );
  question(
    scene,
    "both pods of the StatefulSet with a partition are new, with the revisions they had",
    split.every((name) => isNew(name) && now.get(name)?.revision === before.get(name)?.revision),
    split.map((name) => now.get(name)?.revision).join(", "),
  );
  const others = [...before.keys()].filter((name) => /^(hook|looked-at)-/.test(name));
  question(
    scene,
    "the webhook's pod restarted, and then what it had refused",
    others.every((name) => !now.has(name)),
    [...now.keys()].join(", "),
  );
  await type(
    scene,
    cp,
    `kubectl --kubeconfig /etc/kubernetes/admin.conf -n ${BUSY} rollout resume deployment/paused`,
  );
  await type(scene, cp, `kubectl --kubeconfig /etc/kubernetes/admin.conf -n ${BUSY} delete pdb guarded`);
  await type(scene, cp, PART_4, { part: 4 });
}

function reasonOf(stderr: string): string {
  return (
    stderr.split("\n").find((line) => line.includes("kube-root-ca.crt: ")) ??
    "open says nothing of kube-root-ca.crt"
  );
}

function question(scene: Scene, name: string, ok: boolean, detail: string) {
  scene.checks.push({ name, ok, detail });
}

const drill = drilled();

export const busy: Scenario = {
  ...allLost,
  name: "busy",
  title:
    "As all-lost, with a paused Deployment, a partition, a budget that allows no eviction, a task that runs to its end, and a deaf webhook",
  lines: [
    {
      title: "The cluster has workloads that no script can restart, and a webhook with failurePolicy Fail",
      run: layOut,
    },
    drill.before,
    ...everythingDeleted,
    {
      title: "The operator follows RUNBOOK.md, parts 0 to 3",
      run: (scene) => followRunbook(scene, TAGS, { parts: [0, 1, 2, 3] }),
    },
    {
      title:
        "The operator follows part 4: kube-system, then shop, then the rest, and does for each workload what it says",
      run: part4,
    },
    {
      title: "The operator follows RUNBOOK.md, part 5",
      run: (scene) => followRunbook(scene, TAGS, { parts: [5] }),
    },
    drill.outcome,
  ],
};
