/**
 * Small damages, one after the other on one cluster. The operator types what the scripts print. A repair must
 * not cost more than it needs: commands, files, restarts. `ROWS=expired` plays only the rows with that word
 * in the title.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { HOLD } from "../../../shared/facts/course.ts";
import { Fail } from "../../../shared/fail.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { changedFiles, endedContainers, filesOf, quiet } from "../report/footprint.ts";
import { compare, type Snapshot, takeSnapshot } from "../report/snapshot.ts";
import { countValid } from "../report/verdict.ts";
import { expireKubelet, expireLeaves } from "../scene/expire.ts";
import { assessed, type Followed, followPrinted } from "../scene/printed.ts";
import { controlPlaneGone, note, type Scenario, type Scene, sayAndWait, tokensOf } from "../scene/scene.ts";
import { makeStranger } from "../scene/stranger.ts";
import { allLost } from "./all-lost.ts";

export const smallDamages: Scenario = {
  ...allLost,
  name: "small-damages",
  title:
    "Small losses of every kind, one after the other; each time the operator types what 00-assess and the scripts print",
  byRunbook: false,
  lines: [],
};

interface Row {
  title: string;
  damage(cp: Machine, scene: Scene): Promise<unknown> | unknown;
  /** The verdict of 00-assess on the control plane node. */
  says: RegExp;
  /** What the operator types until 05-verify is green, without the part that all commands share. */
  typed: string[];
  /** The files that may differ from before the damage. */
  changes: RegExp;
  /** Something that pods trust is new, so pods restart in part 4. */
  restarts?: true;
  /** The service-account key is new, so old tokens are not valid any more. */
  newTokens?: true;
}

const PKI = "/etc/kubernetes/pki";
const HERE = /\bCAs and the service-account key are here/i;
const ISSUE = ["01-etcd", "02-control-plane", "05-verify"];
const INTERNAL = ["01-etcd --new-internal-cas", "02-control-plane", "05-verify"];
const HELD = HOLD.map(({ command }) => command);
/**
 * What of part 0 is done already is not printed again: the kubelet is stopped, the controller-manager paused,
 * or not there.
 */
const LOOK = ["00-assess --deep"];
const WORKERS = ["03-workers open", "03-join", "03-workers close", "05-verify"];

const ROWS: Row[] = [
  {
    title: "only the kubeconfigs are lost",
    damage: (cp) => sh(cp, "rm /etc/kubernetes/*.conf"),
    ...{ says: HERE, typed: ISSUE, changes: /^\/etc\/kubernetes\/[a-z-]+\.conf$/ },
  },
  {
    title: "only the manifests are lost",
    async damage(cp, scene) {
      await sh(cp, "rm -r /etc/kubernetes/manifests");
      await controlPlaneGone(scene);
    },
    ...{ says: HERE, typed: ISSUE, changes: /^\/etc\/kubernetes\/manifests\/[a-z-]+\.yaml$/ },
  },
  {
    title: "the manifest of kube-vip is lost, which is not one of kubeadm's",
    damage: (cp) => sh(cp, "systemctl stop kubelet; rm /etc/kubernetes/manifests/kube-vip.yaml"),
    ...{ says: HERE, typed: ISSUE, changes: /manifests\/kube-vip\.yaml$/ },
  },
  {
    title: "two manifests are replaced by another cluster's while the kubelet is stopped",
    async damage(cp) {
      await sh(cp, "systemctl stop kubelet");
      const stranger = await makeStranger();
      for (const name of ["kube-scheduler", "kube-controller-manager"]) {
        const file = `/etc/kubernetes/manifests/${name}.yaml`;
        writeFileSync(cp.path(file), stranger.text(file));
      }
    },
    ...{ says: HERE, typed: ISSUE, changes: /^$/ },
  },
  {
    title: "etcd.yaml is cut off, and the kubelet has seen it",
    async damage(cp, scene) {
      const file = cp.path("/etc/kubernetes/manifests/etcd.yaml");
      writeFileSync(file, readFileSync(file, "utf8").slice(0, 1000));
      const gone = async () => !(await cp.run(["crictl", "ps", "-q", "--name", "^etcd$"])).stdout.trim();
      await sayAndWait(scene, "the kubelet to stop etcd", gone, {
        seconds: 60,
        hint: "journalctl -u kubelet",
      });
    },
    ...{ says: HERE, typed: ISSUE, changes: /^$/ },
  },
  {
    title: "only etcd's PKI is lost",
    damage: (cp) => sh(cp, `rm -r ${PKI}/etcd ${PKI}/apiserver-etcd-client.*`),
    ...{
      says: /lost on this node: (the keys of )?etcd-ca[.,] .*only control plane nodes trust/i,
      typed: INTERNAL,
      changes: /pki\/(etcd\/.+|apiserver-etcd-client)\.(crt|key)$/,
    },
  },
  {
    title: "only the front proxy's PKI is lost",
    damage: (cp) => sh(cp, `rm ${PKI}/front-proxy-*`),
    ...{
      says: /lost on this node: (the keys of )?front-proxy-ca[.,] .*only control plane nodes trust/i,
      typed: INTERNAL,
      changes: /pki\/front-proxy-(ca|client)\.(crt|key)$/,
    },
  },
  {
    title: "the certificates in the control plane node's pki/ have expired, but not the CAs",
    damage: (cp, scene) => expireLeaves(scene.lab, cp),
    ...{
      says: HERE,
      typed: ISSUE,
      changes:
        /pki\/(apiserver|front-proxy-client|etcd\/(server|peer|healthcheck-client))[a-z-]*\.(crt|key)$/,
    },
  },
  {
    title: "the kubelets' certificates have expired, on the control plane node and on the worker",
    damage: (_, scene) => expireKubelets(scene),
    ...{
      says: HERE,
      typed: [...ISSUE.slice(0, 2), ...WORKERS],
      changes: /\/kubelet-(client|server)-[^/]+\.pem$|\/kubelet\.conf$/,
    },
  },
  {
    title: "ca.crt is another CA's, ca.key is the right one",
    damage: async (cp) =>
      writeFileSync(cp.path(`${PKI}/ca.crt`), (await makeStranger()).text(`${PKI}/ca.crt`)),
    ...{ says: HERE, typed: ISSUE, changes: /^$/ },
  },
  {
    title: "ca.crt is cut off",
    damage: (cp) =>
      writeFileSync(cp.path(`${PKI}/ca.crt`), readFileSync(cp.path(`${PKI}/ca.crt`), "utf8").slice(0, 500)),
    ...{ says: HERE, typed: ISSUE, changes: /^$/ },
  },
  {
    title: "sa.key and sa.pub are lost",
    damage: (cp) => sh(cp, `rm ${PKI}/sa.*`),
    ...{
      says: /lost on this node: (the keys of )?sa\./,
      typed: [...HELD, ...LOOK, "00-salvage memory", ...ISSUE],
      changes: /pki\/sa\.(key|pub)$/,
    },
  },
  {
    title: "sa.key and sa.pub are lost, and no process has them in memory",
    async damage(cp) {
      await sh(
        cp,
        `systemctl stop kubelet; rm ${PKI}/sa.*; crictl ps -q --name '^kube-(apiserver|controller-manager)$' | xargs crictl stop`,
      );
    },
    ...{
      says: /lost on this node: (the keys of )?sa\./,
      changes: /pki\/sa\.(key|pub)$|new-sa-key$|kube-apiserver\.yaml$/,
      restarts: true,
      newTokens: true,
    },
    typed: [
      ...LOOK,
      "00-salvage secret",
      "00-token-key",
      "01-etcd --new-cas",
      "02-control-plane",
      "04-sa-tokens",
      "04-sa-tokens retire",
      "05-verify",
    ],
  },
  {
    title: "ca.key is lost, and no process has it in memory",
    damage: (cp) =>
      sh(
        cp,
        `systemctl stop kubelet; rm ${PKI}/ca.key; crictl ps -q --name '^kube-controller-manager$' | xargs crictl stop`,
      ),
    ...{
      says: /lost on this node: (the keys of )?ca\./,
      changes:
        /pki\/(ca|apiserver(-kubelet-client)?|etcd\/server)\.(crt|key)$|\.conf$|\/kubelet-(client|server)-|kube-controller-manager\.yaml$/,
      restarts: true,
    },
    typed: [
      ...LOOK,
      "00-salvage secret",
      "01-etcd --new-cas",
      "02-control-plane",
      ...WORKERS.slice(0, 3),
      "04-sa-tokens",
      "05-verify",
    ],
  },
];

const chosen = ROWS.filter(({ title }) => title.includes(process.env.ROWS ?? ""));
smallDamages.lines.push(
  ...chosen.map((row) => ({ title: row.title, run: (scene: Scene) => repairAndJudge(scene, row) })),
);

async function repairAndJudge(scene: Scene, row: Row) {
  const { lab } = scene;
  await quiet(scene);
  const [snapshot, tokens] = [await takeSnapshot(lab), await tokensOf(lab)];
  const before: Before = { snapshot, tokens, files: lab.nodes.map(filesOf), since: Date.now() };
  await row.damage(lab.controlPlanes[0]!, scene);
  note(scene, row.title);
  const said = await assessed(scene, lab.controlPlanes[0]!);
  const { typed, refused } = await repairEverywhere(scene, said.next);
  const wrong = [
    ...(row.says.test(said.verdict) ? [] : [`00-assess says "${said.verdict}"`]),
    ...(typed.join() === row.typed.join() ? [] : [`typed was ${typed.join(", ")}`]),
    ...(refused ? [`not repaired: ${refused}`] : await needlesslyChanged(scene, row, before)),
  ];
  scene.checks.push({
    name: row.title,
    ok: wrong.length === 0,
    detail: wrong.join("; ") || typed.join(", "),
  });
  scene.say(wrong.length === 0 ? `as expected: ${typed.join(", ")}` : `WRONG: ${wrong.join("; ")}`);
  if (refused) throw new Fail(`${row.title}: ${refused}`, { hint: "look at the cluster with --keep" });
}

interface Before {
  snapshot: Snapshot;
  /** Tokens that are valid now: an earlier row may have made a new key. */
  tokens: string[];
  files: Map<string, string>[];
  since: number;
}

/** What the repair changed although it need not. */
async function needlesslyChanged(
  scene: Scene,
  { changes, restarts, newTokens }: Row,
  { snapshot, tokens, files, since }: Before,
): Promise<string[]> {
  const { lab } = scene;
  const changed = lab.nodes.flatMap((node, index) =>
    changedFiles(files[index]!, filesOf(node)).flatMap((file) =>
      changes.test(file) ? [] : [`${node.name}: ${file}`],
    ),
  );
  const data = Object.values(compare(snapshot, await takeSnapshot(lab))).flat();
  const valid = await countValid(lab, tokens);
  return [
    ...changed.map((file) => `${file} differs from before`),
    ...data,
    ...(restarts ? [] : endedContainers(scene, since).map((name) => `${name} ended`)),
    ...(valid === (newTokens ? 0 : tokens.length)
      ? []
      : [`${valid} of ${tokens.length} old tokens are valid`]),
  ];
}

/**
 * The control plane node first. If 05-verify still fails, 00-assess is run on the workers, as its hint says.
 */
async function repairEverywhere(scene: Scene, next: string[]): Promise<Followed> {
  let followed = await followPrinted(scene, next);
  if (!followed.typed.includes("05-verify")) return followed;
  for (const worker of scene.lab.workers) {
    const said = await assessed(scene, worker);
    if (!said.damaged) continue;
    const { typed, ...rest } = await followPrinted(scene, said.next);
    followed = { typed: [...followed.typed, ...typed], ...rest };
  }
  return followed;
}

async function expireKubelets(scene: Scene) {
  for (const node of scene.lab.nodes) {
    await expireKubelet(scene.lab, node);
    await sh(node, "systemctl restart kubelet");
    const gaveUp = async () =>
      (await node.run(["systemctl", "is-active", "kubelet"])).stdout.trim() !== "active";
    await sayAndWait(scene, `the kubelet of ${node.name} to find its certificate expired`, gaveUp, {
      seconds: 30,
      hint: "journalctl -u kubelet",
    });
  }
}
