/**
 * Part 2 on one of three control plane nodes, while the two others are anywhere in theirs, or have not begun:
 * with the controller-manager from before in full, which leads, waits or is paused. It ends, and another
 * begins reduced, at any request of this node's run. A worker has lost its kubelet's certificates; it joins at
 * some time, or never, or the operator says that it is away. Runs are cut off and typed again, and `close`
 * comes too early. Nobody's controller-manager runs in full by what is typed here before all are back.
 * 100 such nights, three in a sample; NIGHTS=N takes so many, SEED=N other ones.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { REDUCED, reduced } from "../../shared/manifests/repair-changes.ts";
import type { ApiOptions } from "../pretend/api.ts";
import { status } from "../pretend/api.ts";
import { FACTS, type Objects } from "../pretend/cluster.ts";
import { random } from "../pretend/damage.ts";
import { LOST, sameEtcd, serveEtcd, serveOtherMember, THIRD, THIRD_AT } from "../pretend/etcd.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { AT_M2, M2, mirrorPodOfM2, withM2 } from "../pretend/lost-cp.ts";
import { CRICTL, crictlPs, MEMBER } from "../pretend/node.ts";
import { LEASES, lease, MANAGER_LEASE, serveRunning } from "../pretend/running.ts";
import { nodeHere } from "../pretend/typed-here.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(900_000);

const COUNT = Number(process.env.NIGHTS || (IS_SAMPLE ? 3 : 100));
const SEED = Number(process.env.SEED || 20261130);

const NAME = "kube-controller-manager";
const MANAGER = `/etc/kubernetes/manifests/${NAME}.yaml`;
const CONF = "/etc/kubernetes/controller-manager.conf";
const PODS = `/api/v1/namespaces/kube-system/pods/${NAME}`;
const TAINTED = { spec: { taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" }] } };
const SERVERS = ["etcd", "kube-apiserver", NAME, "kube-scheduler"];
/** The kubelet's manifest when the process ends, and when the kubelet starts anew. */
const NOTES = `grep -c ${REDUCED} "$NODE${MANAGER}" >> "$FAKE/starts"; :`;

type Pick = (n: number) => number;

/** Another control plane node, as this one sees it. */
interface Other {
  name: string;
  /** Of before, in full; its part 2 has ended it and started it reduced; its mirror pod says so, too. */
  is: "of before" | "reduced" | "shown";
  /** Of before, and part 0 has paused it. */
  isPaused: boolean;
  /** Its part 2 runs at the same time. */
  isTyped: boolean;
}

/** One night: what is so around this node, and changes with each of its requests. */
function nightOf(pick: Pick) {
  const [lives, evicted] = [pick(3) > 0, pick(6) === 0];
  const others = ["m2", "m3"].map(
    (name): Other => ({
      name,
      is: (["of before", "of before", "reduced", "shown"] as const)[pick(4)]!,
      isPaused: pick(3) === 0,
      isTyped: pick(3) > 0,
    }),
  );
  const night = { evicted, isBack: pick(5) === 0, isNamed: false, comes: pick(3) === 0, isCut: false };
  let [leader, renewals] = [pick(4), 0];
  const renews = ({ is }: Other) => lives || is !== "of before";
  const silent = () => [
    ...others.filter((one) => !renews(one)).map(({ name }) => name),
    ...(night.isBack || night.isNamed || evicted ? [] : ["w2"]),
  ];
  const goOn = () => {
    for (const one of others)
      if (one.isTyped && pick(12) === 0) one.is = one.is === "of before" ? "reduced" : "shown";
    night.isBack ||= night.comes && pick(40) === 0;
    if (pick(20) === 0) leader = pick(4);
  };
  const objects = (): Record<string, object | undefined> => {
    const renewTime = (ms = 0) => ({ spec: { renewTime: new Date(Date.now() + ms).toISOString() } });
    const alive = ["m1", "w1", ...others.filter(renews).map(({ name }) => name)];
    const [led] = [others[leader]].filter((one) => one && !(one.is === "of before" && one.isPaused));
    const holderIdentity = led ? `${led.name}_${led.is === "of before" ? "before" : "new"}` : "m1_x";
    return {
      ...Object.fromEntries(alive.map((name) => [`${LEASES}/${name}`, renewTime(renewals++)])),
      ...(night.isBack ? { [`${LEASES}/w2`]: renewTime(renewals++) } : {}),
      ...(leader < 3 ? { [MANAGER_LEASE]: { spec: { holderIdentity, ...renewTime(renewals++).spec } } } : {}),
      ...Object.fromEntries(others.map(({ name, is }) => [`${PODS}-${name}`, podOf(name, is !== "shown")])),
    };
  };
  return { ...night, night, others, silent, goOn, objects };
}

function podOf(name: string, isFull: boolean) {
  const pod = JSON.parse(JSON.stringify(mirrorPodOfM2(NAME)).replaceAll("m2", name));
  Object.assign(pod.metadata, { creationTimestamp: "2026-11-01T00:00:00Z" });
  return isFull ? pod : reduced(pod, FACTS.kubernetesVersion);
}

const withOthers = (objects: Objects) => {
  withM2(objects);
  const text = JSON.stringify(Object.fromEntries(Object.entries(objects).filter(([key]) => /m2$/.test(key))));
  Object.assign(objects, JSON.parse(text.replaceAll(AT_M2, "127.77.0.13").replaceAll("m2", "m3")));
};

const M2_AT = THIRD_AT.replace(/13$/, "12");
const MEMBERS = [MEMBER, { ...LOST, peerURLs: [`https://${M2_AT}:2380`] }, THIRD];

/** What is damaged here. Since when a manifest in full is one of ours. */
const DAMAGES: { of: string; damage: (node: PretendNode) => void; isOurs: (node: PretendNode) => boolean }[] =
  [
    { of: "its manifest is lost", damage: ({ root }) => rmSync(root + MANAGER), isOurs: () => true },
    {
      of: "its kubeconfig is lost",
      damage: ({ root }) => rmSync(root + CONF),
      isOurs: ({ root }) => existsSync(root + CONF),
    },
    {
      of: "its kubelet is stopped, and nothing is lost",
      damage: ({ env }) => writeFileSync(`${env.FAKE}/stopped`, ""),
      isOurs: ({ env }) => existsSync(`${env.FAKE}/starts`),
    },
    {
      of: "its kubeconfig was renewed by hand",
      damage: ({ root }) => utimesSync(root + CONF, new Date(), new Date(Date.now() - 1_800_000)),
      isOurs: ({ env }) => existsSync(`${env.FAKE}/starts`),
    },
  ];

function linesOf(pick: Pick): { line: string; cutAt: number | undefined }[] {
  const part2 = () => ["02-control-plane", "02-control-plane", "02-control-plane --without w2"][pick(3)]!;
  const next = () => ["03-workers close --wait 1", "01-etcd", part2(), part2()][pick(4)]!;
  return ["02-control-plane", ...Array.from({ length: pick(3) }, next)].map((line) => ({
    line,
    cutAt: pick(3) === 0 ? pick(60) : undefined,
  }));
}

const ends = { full: 0, reduced: 0, cut: 0 };
afterAll(() => console.log(`ended in full ${ends.full}, reduced ${ends.reduced}; cut off ${ends.cut} runs`));

test.each(Array.from({ length: COUNT }, (_, i) => SEED + i))(
  "seed %d: nobody runs in full before all are back, whoever leads, and whatever the others are at",
  async (seed) => {
    const pick = random(seed);
    const { of, damage, isOurs } = DAMAGES[pick(DAMAGES.length)]!;
    const { night, others, silent, goOn, objects } = nightOf(pick);
    const stdout = crictlPs(SERVERS).replaceAll(
      /"createdAt":"\d+"/g,
      `"createdAt":"${Date.now() - 3_600_000}000000"`,
    );
    const commands = [
      { command: `${CRICTL} ps -a -o json`, stdout },
      { command: `${CRICTL} stop --timeout 0 ${NAME}-id`, does: NOTES },
      { command: "systemctl restart kubelet", does: `rm -f "$FAKE/stopped"; ${NOTES}` },
    ];
    using node = await nodeHere({
      kind: "healthy control plane node",
      commands,
      etcd: withOthers,
      members: MEMBERS,
    });
    damage(node);
    const typed: unknown[] = [of, structuredClone({ night, others })];
    const isFull = () => node.exists(MANAGER) && !node.read(MANAGER).includes(REDUCED);
    const judge = (at: string) => {
      if (isOurs(node) && isFull()) expect({ typed, at, silent: silent() }).toMatchObject({ silent: [] });
    };
    let [asked, cutAt] = [0, undefined as number | undefined];
    const wrong: unknown[] = [];
    const on: ApiOptions["on"] = ({ method, path }, api) => {
      goOn();
      for (const [key, object] of Object.entries(objects()))
        if (object) api.objects.set(key, { ...api.objects.get(key), ...object });
      try {
        judge(`${method} ${path}`);
      } catch (error) {
        wrong.push(error);
      }
      return cutAt !== undefined && asked++ > cutAt ? status(503, "the API server is away") : undefined;
    };
    const state = { ...sameEtcd(node.stored), members: MEMBERS };
    using _etcd = serveEtcd(node.root, state);
    using _m2 = await serveOtherMember(node.root, state, M2_AT);
    using _m3 = await serveOtherMember(node.root, state, THIRD_AT);
    using _api = serveRunning(node, {
      objects: {
        "/api/v1/nodes/m2": M2,
        "/api/v1/nodes/m3": { metadata: { name: "m3" } },
        [`${LEASES}/m2`]: lease(4000),
        [`${LEASES}/m3`]: lease(4000),
        [`${LEASES}/w2`]: lease(4000),
        ...(night.evicted ? { "/api/v1/nodes/w2": TAINTED } : {}),
      },
      on,
    });
    for (const { line, cutAt: at } of linesOf(pick)) {
      [asked, cutAt] = [0, at];
      typed.push(line, at);
      night.isNamed ||= line.includes("--without");
      const { exitCode, stderr } = await node.run(line, {
        NODE: node.root,
        KUBE_PKI_REPAIR_PATIENCE: "0.05",
      });
      if (exitCode !== 0) ends.cut++;
      if (exitCode !== 0 && at === undefined && !line.includes("close"))
        expect({ typed, stderr }).toEqual({ typed, stderr: "" });
      judge("the end");
    }
    expect(wrong).toEqual([]);
    const starts = existsSync(`${node.env.FAKE}/starts`)
      ? readFileSync(`${node.env.FAKE}/starts`, "utf8")
      : "";
    expect({ typed, starts }).toMatchObject({ starts: expect.not.stringContaining("0") });
    ends[isFull() ? "full" : "reduced"]++;
  },
);
