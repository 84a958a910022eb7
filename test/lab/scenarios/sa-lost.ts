import { readFileSync } from "node:fs";
import { serviceAccountKeyId } from "../../../shared/pki/certificate.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { carryFile } from "../scene/follow.ts";
import { restartBarePods } from "../scene/printed.ts";
import { controlPlaneSamples, damage, KIT, note, type Scenario, type Scene, sayAndWait, type, workloadsLeft } from "../scene/scene.ts";
import { haAllLost } from "./several-control-planes.ts";

const PKI = "/etc/kubernetes/pki";
const SERVERS = "crictl stop --timeout 0 $(crictl ps -q --name 'kube-apiserver|kube-controller-manager')";
const LOSS = `rm ${PKI}/sa.key ${PKI}/sa.pub; ${SERVERS}`;
const NEW = "./bunw scripts/01-etcd.ts --new-cas";
/** The control plane nodes' kubelets beside the first one's have them elsewhere. */
const TOKENS = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token";
const BUNDLE = "keys.age";

/** Only the service-account key is lost, on all control plane nodes at once and out of every memory, while etcd runs on all of them. */
export const saLost: Scenario = {
  ...haAllLost,
  name: "sa-lost",
  title:
    "sa.key and sa.pub are deleted on three control plane nodes, and what held them ends; one control plane node makes new ones, the others take them",
  byRunbook: false,
  lines: [
    {
      title: "Delete sa.key and sa.pub on every control plane node, and end what holds them",
      run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS),
    },
    { title: "The API goes away", run: apiGone },
    { title: "No second key is made beside a control plane node that may have one", run: refused },
    { title: "One control plane node makes a new key, the others take it", run: repair },
    { title: "Part 4 comes late, and is run again", run: part4 },
  ],
};

async function apiGone(scene: Scene) {
  const gone = () => controlPlaneSamples(scene).every((samples) => samples.at(-1)?.api === false);
  await sayAndWait(scene, "every API server to go away", gone, { seconds: 180, hint: "does something still hold sa.key?" });
  note(scene, "the API is gone", workloadsLeft(scene));
}

async function refused(scene: Scene) {
  for (const cp of scene.lab.controlPlanes.slice(0, 2)) {
    const { stderr } = await type(scene, cp, NEW, { exit: [1] });
    const others = scene.lab.controlPlanes.filter((other) => other !== cp).map(({ nodeName }) => nodeName);
    const ok = stderr.includes("which may still have sa:") && stderr.includes(`--lost-on ${others.join(",")}`);
    scene.checks.push({ name: `${cp.name} makes no key beside the others`, ok, detail: stderr.split("\n").at(-2) ?? "" });
  }
}

async function repair(scene: Scene) {
  const [first, ...others] = scene.lab.controlPlanes as [Machine, ...Machine[]];
  const { stderr } = await type(scene, first, `${NEW} --lost-on ${others.map(({ nodeName }) => nodeName).join(",")}`);
  const next = stderr.trim().split("\n").at(-1)!;
  scene.checks.push({ name: "part 1 names the hand-over", ok: next.includes("hand-over.ts pack"), detail: next });
  await sh(first, `cd ${KIT} && umask 077 && head -c 24 /dev/urandom | base64 > passphrase`);
  const packed = await type(scene, first, `./bunw scripts/hand-over.ts pack --passphrase-file passphrase --out ${BUNDLE}`);
  const unpack = packed.raw.trim().split("\n").at(-1)!;
  for (const cp of others) {
    for (const file of ["passphrase", BUNDLE]) await carryFile(first, cp, file);
    await type(scene, cp, unpack);
  }
  await Promise.all(scene.lab.controlPlanes.map((cp) => type(scene, cp, "./bunw scripts/02-control-plane.ts")));
}

/** By then the first control plane node's own pods have tokens of the new key; those on the workers have not. */
async function part4(scene: Scene) {
  const first = scene.lab.controlPlanes[0]!;
  const kid = serviceAccountKeyId(readFileSync(first.path(`${PKI}/sa.pub`), "utf8"));
  await sh(first, "systemctl restart kubelet");
  const renewed = async () => (await kidsInPods(first)).every((one) => one === kid);
  await sayAndWait(scene, "the first control plane node's kubelet to renew its pods' tokens", renewed, {
    seconds: 180,
    hint: "journalctl -u kubelet there",
  });
  const { stderr } = await type(scene, first, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  if (stderr.includes("not restarted: ")) await restartBarePods(scene);
  const found = stderr.split("\n").find((line) => line.startsWith("  all others: ")) ?? "";
  scene.checks.push({ name: "part 4 finds the workers' pods", ok: found.includes("asker-cached"), detail: found.trim() });
  await type(scene, first, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  await type(scene, first, "./bunw scripts/05-verify.ts", { part: 5 });
}

/** Which keys signed the tokens that this node's pods have mounted. */
async function kidsInPods(node: Machine): Promise<string[]> {
  const { stdout } = await node.run(["bash", "-c", `for token in ${TOKENS}; do cut -d. -f1 "$token"; done`]);
  const heads = stdout.split("\n").filter(Boolean);
  return heads.map((head) => (JSON.parse(Buffer.from(head, "base64url").toString()) as { kid: string }).kid);
}
