import { readFileSync } from "node:fs";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { carryFile } from "../scene/follow.ts";
import { restartBarePods } from "../scene/printed.ts";
import {
  controlPlaneSamples,
  damage,
  KIT,
  note,
  type Scenario,
  type Scene,
  sayAndWait,
  type,
  workloadsLeft,
} from "../scene/scene.ts";
import { haAllLost } from "./several-control-planes.ts";

const PKI = "/etc/kubernetes/pki";
const SERVERS = "crictl stop --timeout 0 $(crictl ps -q --name 'kube-apiserver|kube-controller-manager')";
const LOSS = `rm ${PKI}/sa.key ${PKI}/sa.pub; ${SERVERS}`;
const NEW = "./bunw scripts/01-etcd.ts --new-cas";
/** On the first control plane node; the kubelets of the others keep them elsewhere. */
const TOKENS = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token";
const BUNDLE = "keys.age";

/**
 * Only the service-account key is lost, on every control plane node and in every memory, while etcd runs on
 * all of them.
 */
export const saLost: Scenario = {
  ...haAllLost,
  name: "sa-lost",
  title:
    "sa.key and sa.pub are deleted on three control plane nodes; the operator makes a new key on one and hands it over to the others",
  byRunbook: false,
  lines: [
    {
      title:
        "sa.key and sa.pub are deleted on every control plane node, and the servers that hold them are stopped",
      run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS),
    },
    { title: "The API servers stop", run: apiGone },
    { title: "Part 1 refuses a new key while other nodes may still have the old one", run: refused },
    { title: "The operator makes a new key on one node and hands it over to the others", run: repair },
    { title: "The operator runs part 4 late, and a second time", run: part4 },
  ],
};

async function apiGone(scene: Scene) {
  const gone = () => controlPlaneSamples(scene).every((samples) => samples.at(-1)?.api === false);
  await sayAndWait(scene, "every API server to stop", gone, {
    seconds: 180,
    hint: "crictl ps: does a server still run with the old sa.key?",
  });
  note(scene, "the API is gone", workloadsLeft(scene));
}

async function refused(scene: Scene) {
  for (const cp of scene.lab.controlPlanes.slice(0, 2)) {
    const { stderr } = await type(scene, cp, NEW, { exit: [3] });
    const others = scene.lab.controlPlanes.filter((other) => other !== cp).map(({ nodeName }) => nodeName);
    const ok =
      stderr.includes("which may still have sa:") && stderr.includes(`--lost-on ${others.join(",")}`);
    scene.checks.push({
      name: `${cp.name} makes no new key while the others may have the old one`,
      ok,
      detail: stderr.split("\n").at(-2) ?? "",
    });
  }
}

async function repair(scene: Scene) {
  const [first, ...others] = scene.lab.controlPlanes as [Machine, ...Machine[]];
  const { stderr } = await type(
    scene,
    first,
    `${NEW} --lost-on ${others.map(({ nodeName }) => nodeName).join(",")}`,
  );
  const next = stderr.trim().split("\n").at(-1)!;
  scene.checks.push({
    name: "part 1 names the hand-over",
    ok: next.includes("hand-over.ts pack"),
    detail: next,
  });
  await sh(first, `cd ${KIT} && umask 077 && head -c 24 /dev/urandom | base64 > passphrase`);
  const packed = await type(
    scene,
    first,
    `./bunw scripts/hand-over.ts pack --passphrase-file passphrase --out ${BUNDLE}`,
  );
  const unpack = packed.raw.trim().split("\n").at(-1)!;
  for (const cp of others) {
    for (const file of ["passphrase", BUNDLE]) await carryFile(first, cp, file);
    await type(scene, cp, unpack);
  }
  await Promise.all(
    scene.lab.controlPlanes.map((cp) => type(scene, cp, "./bunw scripts/02-control-plane.ts")),
  );
}

/** The pods on the first node have tokens of the new key by then; the pods on the workers do not. */
async function part4(scene: Scene) {
  const first = scene.lab.controlPlanes[0]!;
  const kid = serviceAccountKeyId(readFileSync(first.path(`${PKI}/sa.pub`), "utf8"));
  await sh(first, "systemctl restart kubelet");
  const renewed = async () => (await kidsInPods(first)).every((one) => one === kid);
  await sayAndWait(scene, "the first node's kubelet to renew its pods' tokens", renewed, {
    seconds: 180,
    hint: "journalctl -u kubelet on that node, with --keep",
  });
  const { stderr } = await type(scene, first, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  if (stderr.includes("not restarted: ")) await restartBarePods(scene);
  const found = stderr.split("\n").find((line) => line.startsWith("  all others: ")) ?? "";
  scene.checks.push({
    name: "part 4 finds the pods on the workers",
    ok: found.includes("asker-cached"),
    detail: found.trim(),
  });
  await type(scene, first, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  await type(scene, first, "./bunw scripts/05-verify.ts", { part: 5 });
}

/** The IDs of the keys that signed the tokens in this node's pods. */
async function kidsInPods(node: Machine): Promise<string[]> {
  const { stdout } = await node.run(["bash", "-c", `for token in ${TOKENS}; do cut -d. -f1 "$token"; done`]);
  const heads = stdout.split("\n").filter(Boolean);
  return heads.map((head) => (JSON.parse(Buffer.from(head, "base64url").toString()) as { kid: string }).kid);
}
