/**
 * The machines come up with other addresses than before. The operator does what 00-assess prints.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { asMoved, endpointHost } from "../../../shared/pki/addresses.ts";
import { undefinedOnTimeout } from "../../../shared/wait-for.ts";
import { calico } from "../machine/calico.ts";
import { ENDPOINT } from "../machine/kubeadm-config.ts";
import { addressOf } from "../machine/layout.ts";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { USUAL } from "../machine/profile.ts";
import { newAddress, readdress } from "../machine/readdress.ts";
import { followRepair } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import {
  controlPlaneSamples,
  note,
  type Scenario,
  type Scene,
  sayAndWait,
  startClock,
  type,
} from "../scene/scene.ts";

const MOVE = "./bunw scripts/move.ts";

function scenario(
  name: string,
  title: string,
  lab: Pick<Scenario, "controlPlanes" | "workers">,
  who: string[],
): Scenario {
  return {
    ...{ name, title, ...lab },
    byRunbook: true,
    machinesFail: true,
    lines: [
      {
        title: `${who.join(", ")} lose power, and come back with other addresses`,
        run: (scene) => move(scene, who),
      },
      { title: "The operator does what 00-assess prints", run: (scene) => repair(scene, who) },
      { title: "Nothing names an old address", run: compareAddresses },
    ],
  };
}

export const moved = scenario(
  "moved",
  "The only control plane node comes back with another address",
  { controlPlanes: 1, workers: 1 },
  ["cp1"],
);

const VIP = "10.250.0.9/32";

/** kube-vip's address stays on the card while the lease is away, so it is the first one when the new one comes. */
export const movedVip: Scenario = {
  ...moved,
  name: "moved-vip",
  title: "The only control plane node comes back with another address, and its card has a VIP before it",
  lines: [
    {
      title: "cp1 loses power, and comes back with a VIP and another address",
      run: (scene) => move(scene, ["cp1"], VIP),
    },
    {
      title: "The operator types move without a word, then the guide is followed",
      run: (scene) => moveAndRepair(scene, MOVE),
    },
    { title: "Nothing names an old address", run: compareAddresses },
    { title: "Nothing takes the VIP for the machine's own", run: findVip },
  ],
};

async function findVip(scene: Scene) {
  const [cp1] = scene.lab.controlPlanes as [Machine];
  const vip = VIP.replace("/32", "");
  const printed = async (line: string) => (await cp1.run(["bash", "-c", line])).stdout.trim();
  const shown = await printed("ip -4 -o addr show dev eth0 | awk '{ print $4 }' | xargs");
  const line = `grep -rlF ${vip} /etc/kubernetes /var/lib/kubelet/kubeadm-flags.env; kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes,endpointslices,configmaps,pods -A -o yaml | grep -F ${vip}`;
  const found = await printed(line);
  scene.checks.push({
    name: "the VIP is first on the card, and no file and no object names it as the machine's",
    ok: shown.startsWith(VIP) && found === "",
    detail: `${shown}${found && `; found in ${found.split("\n").join(", ")}`}`,
  });
}

/**
 * kubeadm without a balancer: workers, kube-proxy and every kubeconfig lead to the only control plane node.
 */
export const movedEndpoint: Scenario = {
  ...scenario(
    "moved-endpoint",
    "The only control plane node comes back with another address, and its address was the endpoint",
    { controlPlanes: 1, workers: 1 },
    ["cp1"],
  ),
  profile: () => ({
    ...USUAL,
    // nodes join by the balancer's name
    certSANs: [...USUAL.certSANs, "lab-api"],
    clusterConfiguration: { controlPlaneEndpoint: `${addressOf("cp1").ip}:6443` },
  }),
};

/** Both at once: the map holds for every way that the parts may take. */
export const movedLost: Scenario = {
  ...moved,
  name: "moved-lost",
  title:
    "/etc/kubernetes is deleted on every node, and the control plane node comes back with another address",
  lines: [
    {
      title: "/etc/kubernetes is deleted on every node, and cp1 comes back with another address",
      async run(scene) {
        for (const node of scene.lab.nodes) await sh(node, "rm -rf /etc/kubernetes");
        await move(scene, ["cp1"]);
      },
    },
    {
      title: "The operator types move, then the guide is followed",
      run: (scene) => moveAndRepair(scene, MOVE),
    },
    { title: "Nothing names an old address", run: compareAddresses },
  ],
};

export const movedOne = scenario(
  "moved-one",
  "One of three control plane nodes comes back with another address",
  { controlPlanes: 3, workers: 2 },
  ["cp2"],
);

/** Felix and Typha keep addresses, too; who has not moved has to find the others' pods. */
export const calicoMoved: Scenario = {
  ...scenario(
    "calico-moved",
    "With Calico and its Typha: the control plane node and one of two workers come back with other addresses",
    { controlPlanes: 1, workers: 2 },
    ["cp1", "w1"],
  ),
  profile: () => ({ ...USUAL, podNetwork: calico("kube-system"), pings: true }),
};

export const movedTwo = scenario(
  "moved-two",
  "Two of three control plane nodes come back with other addresses: no quorum until they know them",
  { controlPlanes: 3, workers: 1 },
  ["cp1", "cp3"],
);

const SWAPPED = scenario(
  "swapped",
  "Two of three control plane nodes come back with each other's address, and then with others",
  { controlPlanes: 3, workers: 1 },
  ["cp1", "cp2"],
);

/** Nothing tells then which of the two an address means: refused, until they have others. */
export const swapped: Scenario = {
  ...SWAPPED,
  lines: [
    { title: "cp1, cp2 lose power, and come back with each other's address", run: swap },
    ...SWAPPED.lines,
    { title: "Each Node has its machine's address", run: compareNodes },
  ],
};

async function swap(scene: Scene) {
  const [cp1, cp2] = scene.lab.controlPlanes as [Machine, Machine];
  const [one, two] = [cp1.ip, cp2.ip];
  await cutPower(scene, [cp1, cp2]);
  await readdress(scene.lab, { cp1: two, cp2: one });
  await powerOn(scene, [cp1, cp2]);
  const line = `${MOVE} --moved ${one}=${two},${two}=${one}`;
  for (const node of [cp1, cp2]) await type(scene, node, line, { part: 0, exit: [3] });
  await cutPower(scene, [cp1, cp2]);
  await readdress(scene.lab, { cp1: one, cp2: two });
  await powerOn(scene, [cp1, cp2]);
}

async function compareNodes(scene: Scene) {
  const { stdout } = await kubectl(scene.lab, ["get", "nodes", "-o", "json"]);
  type Node = { metadata: { name: string }; status: { addresses: { type: string; address: string }[] } };
  const { items } = JSON.parse(stdout) as { items: Node[] };
  const shown = items.map(({ metadata: { name }, status: { addresses } }) => {
    const own = addresses.find(({ type }) => type === "InternalIP")?.address;
    return { name, own, isRight: own === scene.lab.nodes.find((node) => node.nodeName === name)?.ip };
  });
  scene.checks.push({
    name: "each Node has its machine's address",
    ok: shown.length === scene.lab.nodes.length && shown.every(({ isRight }) => isRight),
    detail: shown.map(({ name, own }) => `${name} ${own}`).join(", "),
  });
}

export const movedAll = scenario(
  "moved-all",
  "All three control plane nodes come back with other addresses, and one worker",
  { controlPlanes: 3, workers: 2 },
  ["cp1", "cp2", "cp3", "w2"],
);

/**
 * Its name is gone from DNS (here /etc/hosts), and another one leads to the same balancer. Nobody who asks anew finds
 * the API, but for the servers beside it.
 */
export const endpointRenamed: Scenario = {
  ...scenario(
    "endpoint-renamed",
    "The endpoint has another name, and the old one leads nowhere",
    { controlPlanes: 3, workers: 2 },
    ["cp1", "cp2", "cp3"],
  ),
  machinesFail: false,
  kubeletsRestart: true,
  lines: [
    { title: "The endpoint gets another name, and every machine restarts its kubelet", run: rename },
    {
      title: "The operator does what RUNBOOK-MORE says",
      run: (scene) => repair(scene, ["cp1", "cp2", "cp3"]),
    },
    { title: "Nothing names the old one", run: compareAddresses },
  ],
};

async function rename(scene: Scene) {
  const old = endpointHost(ENDPOINT);
  addresses = new Map([[old, FRONT]]);
  startClock(scene);
  const changing = await namingOld(scene);
  scene.before = asIfMoved(scene, changing);
  const line = `sed -i 's/\\b${old}\\b/${FRONT}/' /etc/hosts && ! grep -qw ${old} /etc/hosts && systemctl restart kubelet`;
  await Promise.all(scene.lab.nodes.map((node) => sh(node, line)));
  note(scene, "another name of the endpoint", `${old} → ${FRONT}`);
}

const FRONT = "lab-front.example";
const [OWN_SERVER, PUT_IN] = [`https://${addressOf("cp1").ip}:6443`, `https://${FRONT}:6443`];

/** kubeadm without --control-plane-endpoint: no second control plane node could join. */
export const endpointPutIn: Scenario = {
  ...endpointRenamed,
  name: "endpoint-put-in",
  title: "The cluster has no endpoint, and gets one: a name of a balancer",
  controlPlanes: 1,
  workers: 1,
  profile: () => ({
    ...USUAL,
    // nodes join by the balancer's name
    certSANs: [...USUAL.certSANs, "lab-api"],
    clusterConfiguration: { controlPlaneEndpoint: undefined },
  }),
  lines: [
    { title: "A name of the balancer is known on every node", run: putIn },
    { title: "The operator does what RUNBOOK-MORE says", run: (scene) => repair(scene, ["cp1"]) },
    { title: "Nothing leads to the only control plane node", run: compareAddresses },
  ],
};

async function putIn(scene: Scene) {
  addresses = new Map([[OWN_SERVER, PUT_IN]]);
  startClock(scene);
  const changing = await namingOld(scene);
  scene.before = asIfMoved(scene, ["kube-system/kubeadm-config", ...changing]);
  for (const node of scene.lab.nodes) await sh(node, `sed -i 's/\\blab-api\\b/& ${FRONT}/' /etc/hosts`);
  note(scene, "an endpoint", PUT_IN);
}

const FLAGS = "/var/lib/kubelet/kubeadm-flags.env";

/**
 * Both hosts get other names, and their kubelets start anew. The worker's is told its node's name, as kubeadm does
 * where a node has another name than its host; that of cp1 would register another node, which nobody lets it.
 */
export const hostRenamed: Scenario = {
  name: "host-renamed",
  title: "The hosts of both machines get other names; their nodes keep the old ones",
  controlPlanes: 1,
  workers: 1,
  byRunbook: true,
  kubeletsRestart: true,
  lines: [
    {
      title: "Both hosts get other names, and their kubelets restart",
      async run(scene) {
        startClock(scene);
        const [cp1] = scene.lab.controlPlanes as [Machine];
        const flags = readFileSync(cp1.path(FLAGS), "utf8").replace('="', '="--hostname-override=cp1 ');
        scene.before.nodes.cp1!.kubelet[FLAGS] = createHash("sha256").update(flags).digest("hex");
        const line = "hostname $(hostname)-renamed; hostname > /etc/hostname; systemctl restart kubelet";
        await Promise.all(scene.lab.nodes.map((node) => sh(node, line)));
        const refused = "journalctl -u kubelet -n 200 | grep -q cp1-renamed";
        const isRefused = async () => (await cp1.run(["bash", "-c", refused])).exitCode === 0;
        await sayAndWait(scene, "cp1's kubelet to use the other name", isRefused, {
          seconds: 60,
          hint: "journalctl",
        });
      },
    },
    {
      title: "The operator types move on cp1",
      async run(scene) {
        const [cp1] = scene.lab.controlPlanes as [Machine];
        await type(scene, cp1, MOVE, { part: 0 });
        await type(scene, cp1, "./bunw scripts/01-etcd.ts", { part: 1 });
        await type(scene, cp1, "./bunw scripts/02-control-plane.ts", { part: 2 });
        for (const node of scene.lab.nodes)
          await type(scene, node, "./bunw scripts/05-verify.ts --wait 60", { part: 5, exit: [0, 2] });
      },
    },
    { title: "No node is new", run: sameNodes },
  ],
};

async function sameNodes(scene: Scene) {
  const { stdout } = await kubectl(scene.lab, ["get", "nodes", "-o", "name"]);
  const now = stdout.trim().split("\n").toSorted();
  const ok = Bun.deepEquals(now, scene.lab.nodes.map(({ name }) => `node/${name}`).toSorted());
  scene.checks.push({
    name: "the nodes have their names of before, and none is new",
    ok,
    detail: now.join(", "),
  });
}

/** Old → new. */
let addresses: Map<string, string>;

async function move(scene: Scene, who: string[], guest?: string) {
  const { lab } = scene;
  const movers = lab.nodes.filter(({ name }) => who.includes(name));
  addresses = new Map(movers.map((node) => [node.ip, newAddress(node)]));
  startClock(scene);
  const changing = await namingOld(scene);
  await cutPower(scene, movers);
  await readdress(lab, Object.fromEntries(movers.map((node) => [node.name, newAddress(node)])), guest);
  note(scene, "other addresses", [...addresses].map((pair) => pair.join(" → ")).join(", "));
  scene.before = asIfMoved(scene, changing);
  await powerOn(scene, movers);
  const gone = () => controlPlaneSamples(scene).every((samples) => samples.at(-1)?.api === false);
  if (movers.length >= lab.controlPlanes.length)
    await sayAndWait(scene, "the API to be gone", gone, {
      seconds: 120,
      hint: "is the kubelet up? look with --keep",
    });
}

/**
 * ConfigMaps that have to change; none where a balancer is the endpoint, or where no API server answers any
 * more.
 */
async function namingOld({ lab }: Scene): Promise<string[]> {
  const { stdout } = await kubectl(lab, ["get", "configmaps", "-A", "-o", "json"]);
  type ConfigMap = { metadata: { name: string; namespace: string }; data?: object };
  const { items } = JSON.parse(stdout || '{"items":[]}') as { items: ConfigMap[] };
  const names = (text: string) => asMoved(text, addresses) !== text;
  return items.flatMap(({ metadata: { name, namespace }, data = {} }) =>
    Object.values(data).some((text) => names(String(text))) ? [`${namespace}/${name}`] : [],
  );
}

/** What a repair has to bring back: the same, with the new addresses. */
function asIfMoved({ before, lab }: Scene, changing: readonly string[]): Scene["before"] {
  const text = asMoved(JSON.stringify(before), addresses);
  const snapshot = JSON.parse(text) as Scene["before"];
  for (const name of changing) delete snapshot.configMaps[name];
  // who has not moved keeps its files
  for (const { name, ip } of lab.nodes)
    if (![...addresses.values()].includes(ip)) snapshot.nodes[name] = before.nodes[name]!;
  for (const node of lab.nodes)
    for (const file of Object.keys(snapshot.nodes[node.name]!.kubelet)) {
      const now = asMoved(readFileSync(node.path(file), "utf8"), addresses);
      snapshot.nodes[node.name]!.kubelet[file] = createHash("sha256").update(now).digest("hex");
    }
  return snapshot;
}

async function repair(scene: Scene, who: string[]) {
  const { controlPlanes, workers } = scene.lab;
  const movers = controlPlanes.filter(({ name }) => who.includes(name));
  const [first] = movers as [Machine];
  await type(scene, first, "./bunw scripts/00-assess.ts", { part: 0, exit: [0, 2, 3] });
  const said = [...addresses].map((pair) => pair.join("=")).join(",");
  if (scene.guide === "repair") return await moveAndRepair(scene, `${MOVE} --moved ${said}`);
  for (const node of movers) await type(scene, node, `${MOVE} --moved ${said}`, { part: 0 });
  for (const node of movers) await type(scene, node, "./bunw scripts/01-etcd.ts", { part: 1 });
  await Promise.all(
    movers.map((node) => type(scene, node, "./bunw scripts/02-control-plane.ts", { part: 2 })),
  );
  // one that names no old address is left as it is
  for (const node of workers) await type(scene, node, `${MOVE} --moved ${said}`, { part: 3 });
  for (const node of movers) await type(scene, node, "./bunw scripts/03-workers.ts close", { part: 3 });
  for (const node of movers) await type(scene, node, MOVE, { part: 4 });
  for (const node of scene.lab.nodes)
    await type(scene, node, "./bunw scripts/05-verify.ts --wait 60", { part: 5, exit: [0, 2] });
}

/** Only the operator knows where the others are now. */
async function moveAndRepair(scene: Scene, move: string) {
  const [first] = scene.lab.controlPlanes as [Machine];
  await type(scene, first, move, { part: 0 });
  await followRepair(scene, {});
}

/** The API server takes the place of a dead one out of the Service kubernetes when that one's lease has ended. */
async function compareAddresses(scene: Scene) {
  let [old, count]: [string[], number] = [[], 0];
  const none = async () => {
    [old, count] = await stillOld(scene);
    return old.length === 0;
  };
  const what = "no Node, EndpointSlice, ConfigMap or pod to name an old address";
  await undefinedOnTimeout(sayAndWait(scene, what, none, { seconds: 45, hint: "look with --keep" }));
  scene.checks.push({
    name: "no Node, EndpointSlice, ConfigMap or pod names an old address",
    ok: old.length === 0,
    detail: old.join(", ") || `of ${count}`,
  });
}

/** Which, with the words around it, and of how many. */
async function stillOld({ lab }: Scene): Promise<[string[], number]> {
  const { stdout } = await kubectl(lab, ["get", "nodes,endpointslices,configmaps,pods", "-A", "-o", "json"]);
  const { items } = JSON.parse(stdout) as {
    items: { kind: string; metadata: { name: string; managedFields?: unknown } }[];
  };
  const old = items.flatMap((item) => {
    // etcd's first members, which it reads from its data since
    const text = JSON.stringify({
      ...item,
      metadata: { ...item.metadata, managedFields: undefined },
    }).replace(/--initial-cluster=[^"]*/g, "");
    const today = asMoved(text, addresses);
    if (today === text) return [];
    const at = Array.from(text).findIndex((letter, i) => letter !== today[i]);
    return [`${item.kind} ${item.metadata.name} (…${text.slice(Math.max(0, at - 60), at + 40)}…)`];
  });
  return [old, items.length];
}
