/** Rows of unlike.ts: clusters with several control plane nodes, and etcd's members on them. */

import { CONTROL_PLANE } from "../../shared/node/containers.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { ADDRESS } from "./cluster.ts";
import { sameEtcd, serveOtherMember, serveUnit } from "./etcd.ts";
import { commandsOf, ETCD_HOST, ETCD_PKI, ETCD_URL, external, layOut, OTHER_MEMBER } from "./etcd-as-unit.ts";
import { MEMBER, routesOf } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import { balancer, type Place } from "./unlike-cluster.ts";
import { addNode, editObject, reissue, setFlags } from "./unlike-edits.ts";
import type { WrittenMember } from "./write-wal.ts";

/** The address of m2, m3, …: of this test's own. */
const addressOf = (name: string) => ADDRESS.replace(/1$/, name.slice(1));

const memberOf = (name: string, more: Partial<WrittenMember> = {}): WrittenMember => ({
  id: `${name.slice(1)}1b2c3d4e5f60718`,
  name,
  peerURLs: [`https://${addressOf(name)}:2380`],
  ...more,
});

/** m1's static pods, as another control plane node has them. */
function addControlPlane(place: Place, name: string) {
  addNode(place, name, addressOf(name), { labels: { "node-role.kubernetes.io/control-plane": "" } });
  for (const pod of CONTROL_PLANE) {
    const text = JSON.stringify(place.objects[`pods/kube-system/${pod}-m1`]).replaceAll(
      ADDRESS,
      addressOf(name),
    );
    place.objects[`pods/kube-system/${pod}-${name}`] = JSON.parse(
      text.replaceAll("-m1", `-${name}`).replaceAll('"m1"', `"${name}"`),
    ) as Manifest;
  }
}

/** Serves the others' etcd and API server; `members` are all but m1's. */
async function serveOthers(place: Place, members: readonly WrittenMember[], away: readonly string[] = []) {
  place.node.members = [MEMBER, ...members];
  await reissue(place, "apiserver", { certSANs: members.map(({ name }) => addressOf(name)) });
  const puts = Object.entries(place.objects).map(([key, value]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(value),
  ]);
  const state = { ...sameEtcd(new Map(puts)), members: place.node.members };
  for (const { name } of members.filter((member) => !away.includes(member.name))) {
    place.others.push(await serveOtherMember(place.root, state, addressOf(name)));
    balancer(place, addressOf(name), 6443);
  }
}

/** New keys beside a running etcd would split the cluster. */
const KEYS_ARE_ELSEWHERE: Unlike["lost"] = { refuses: ["01-etcd --new-cas", /hand-over\.ts/] };

/** The pretend has one certificate for all three addresses; each node's own has one of them. */
const ITS_OWN_ALONE: Unlike["plays"] = Object.fromEntries(
  (["lost, and the old keys found", "all expired", "the CAs have ended"] as const).map((play) => [
    play,
    { without: /^apiserver\.crt$/ },
  ]),
);

/** etcd at another host than the API server's, with certificates that somebody made for it. */
const etcdAt = (host: string) => async (place: Place) => {
  const [client, peer] = [`https://${host}:2379`, `https://${host}:2380`];
  place.node.members = [{ ...MEMBER, peerURLs: [peer] }];
  setFlags(
    place,
    "etcd",
    ...[`--advertise-client-urls=${client}`, `--listen-client-urls=https://127.0.0.1:2379,${client}`],
    ...[
      `--initial-advertise-peer-urls=${peer}`,
      `--listen-peer-urls=${peer}`,
      `--initial-cluster=m1=${peer}`,
    ],
  );
  for (const name of ["etcd-server", "etcd-peer"])
    await reissue(place, name, { etcdServerCertSANs: [host], etcdPeerCertSANs: [host] });
};

const SECOND = ADDRESS.replace(/11$/, "61");

export const MEMBERS: Unlike[] = [
  {
    name: "etcd is on a second network, and kubeadm-config does not know it",
    who: "a network for storage: certificates and flags by hand",
    change: async (place) => {
      place.node.commands!.push(...routesOf([{ local: ADDRESS }, { local: SECOND }]));
      for (const port of [2379, 2380]) balancer(place, SECOND, port, () => port);
      balancer(place, "127.0.0.1", 2379, () => 2379);
      await etcdAt(SECOND)(place);
    },
  },
  {
    name: "three control plane nodes, each with a member of etcd",
    who: "kubeadm's stacked etcd: most clusters that matter",
    change: async (place) => {
      for (const name of ["m2", "m3"]) addControlPlane(place, name);
      await serveOthers(place, [memberOf("m2"), memberOf("m3")]);
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: ITS_OWN_ALONE,
  },
  {
    name: "three control plane nodes, and etcd is a unit of each",
    who: "kubespray and KubeKey with three nodes",
    change: async (place) => {
      for (const name of ["m2", "m3"]) addControlPlane(place, name);
      await reissue(place, "apiserver", { certSANs: ["m2", "m3"].map(addressOf) });
      layOut(place.root, "KubeKey 3");
      external(place.objects, "KubeKey 3");
      place.node.commands!.push(...commandsOf("KubeKey 3"));
      const names = ["m1", "m2", "m3"];
      const members = names.map((name, i) => ({
        ...(i === 0 ? MEMBER : memberOf(name)),
        name: `etcd${i + 1}`,
      }));
      place.node.members = members;
      place.etcd = ETCD_PKI;
      const puts = Object.entries(place.objects).map(([key, value]): [string, string] => [
        `/registry/${key}`,
        JSON.stringify(value),
      ]);
      for (const name of ["m2", "m3"]) {
        place.others.push(serveUnit(ETCD_PKI, { ...sameEtcd(new Map(puts)), members }, addressOf(name)));
        balancer(place, addressOf(name), 6443);
      }
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: ITS_OWN_ALONE,
  },
  {
    name: "two control plane nodes, and etcd is on another machine",
    who: "kubeadm with an external etcd, KubeKey 3 with etcd on hosts of its own",
    change: async (place) => {
      addControlPlane(place, "m2");
      await reissue(place, "apiserver", { certSANs: [addressOf("m2")] });
      layOut(place.root, "KubeKey 3", { elsewhere: true });
      external(place.objects, "KubeKey 3", { elsewhere: true });
      place.objects[`/registry/masterleases/${addressOf("m2")}`] = { metadata: {} };
      place.node.commands!.push(...commandsOf("KubeKey 3", { elsewhere: true }));
      place.node.members = [OTHER_MEMBER];
      place.etcd = { ...ETCD_PKI, at: ETCD_HOST };
      balancer(place, addressOf("m2"), 6443);
    },
    lost: { ...KEYS_ARE_ELSEWHERE, adds: `--etcd-data ${ETCD_URL}` },
    plays: ITS_OWN_ALONE,
  },
  {
    name: "three members of etcd whose names are not those of their nodes",
    who: "kubespray's etcd1 to etcd3; members that were restored",
    change: async (place) => {
      for (const name of ["m2", "m3"]) addControlPlane(place, name);
      await serveOthers(place, [memberOf("m2"), memberOf("m3")]);
      // In this very list: the others' etcd serves it.
      const members = place.node.members!;
      members.splice(
        0,
        members.length,
        ...members.map((member, at) => ({ ...member, name: `etcd${at + 1}` })),
      );
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: ITS_OWN_ALONE,
  },
  {
    name: "three control plane nodes of two releases, and each API server knows all of etcd",
    who: "an upgrade that goes on; --etcd-servers with all three",
    change: async (place) => {
      for (const name of ["m2", "m3"]) addControlPlane(place, name);
      const older = /:v1\.34\.\d+/g;
      for (const [key, pod] of Object.entries(place.objects))
        if (/^pods\/kube-system\/kube-.*-m3$/.test(key))
          place.objects[key] = JSON.parse(JSON.stringify(pod).replaceAll(older, ":v1.33.5"));
      const all = [ADDRESS, addressOf("m2"), addressOf("m3")].map((host) => `https://${host}:2379`);
      setFlags(place, "kube-apiserver", `--etcd-servers=${all}`);
      await serveOthers(place, [memberOf("m2"), memberOf("m3")]);
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: ITS_OWN_ALONE,
  },
  {
    name: "one of three control plane nodes is switched off",
    who: "a machine in repair: two members of three are enough",
    change: async (place) => {
      for (const name of ["m2", "m3"]) addControlPlane(place, name);
      place.away.push("m3");
      editObject(place, "leases/kube-node-lease/m3", ({ spec }) =>
        Object.assign(spec, { renewTime: "2026-08-01T00:00:00.000000Z" }),
      );
      // in etcd, too, it was written before those of the others
      place.objects = {
        "leases/kube-node-lease/m3": place.objects["leases/kube-node-lease/m3"]!,
        ...place.objects,
      };
      await serveOthers(place, [memberOf("m2"), memberOf("m3")], ["m3"]);
    },
    ends: {
      "02-control-plane": { names: /m3 does not answer: .*\n.* --without m3/ },
      "03-workers open": { typed: "03-workers open --without m3", code: 0, names: /m3/ },
      "03-workers close": { typed: "03-workers close --without m3", code: 0, names: /./ },
      "04-sa-tokens": { typed: "04-sa-tokens --without m3", code: 0, names: /./ },
      "05-verify": { code: 0, names: /all good but what you said: m3 is away/ },
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: Object.fromEntries(
      (["lost, and the old keys found", "all expired", "the CAs have ended"] as const).map((play) => [
        play,
        { refuses: ["02-control-plane", /--without m3/] },
      ]),
    ),
  },
  {
    name: "a fourth member of etcd learns, on a node that is being joined",
    who: "kubeadm join --control-plane at this moment",
    change: async (place) => {
      for (const name of ["m2", "m3", "m4"]) addControlPlane(place, name);
      await serveOthers(place, [memberOf("m2"), memberOf("m3"), memberOf("m4", { isLearner: true })]);
    },
    lost: KEYS_ARE_ELSEWHERE,
    plays: ITS_OWN_ALONE,
  },
];
