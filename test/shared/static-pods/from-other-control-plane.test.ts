/** A manifest made from another control plane node's: etcd's first members are this node's own, and those of its data. */
import { expect, test } from "bun:test";
import { commandOf, flags } from "../../../shared/manifests/command.ts";
import { manifestFromPeer } from "../../../shared/static-pods/from-other-control-plane.ts";
import { ADDRESS, mirrorPod } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const M2 = "127.77.0.12";
const ofM2 = (value: unknown) =>
  JSON.parse(JSON.stringify(value).replaceAll(ADDRESS, M2).replaceAll('m1"', 'm2"').replaceAll("m1=", "m2="));

test.each([
  ["m1", `https://${ADDRESS}:2380`],
  ["default", "http://localhost:2380"],
])("a lone member %s at %s: the flags name this node at its address", async (name, peerURL) => {
  const data = await pretendData((objects) => {
    objects["minions/m2"] = ofM2(objects["minions/m1"]);
    objects["pods/kube-system/etcd-m2"] = ofM2(mirrorPod("etcd"));
  });
  using _box = sandbox();
  const members = data.members.map((member) => ({ ...member, name, peerURLs: [peerURL] }));
  const found = manifestFromPeer("etcd", { ...controlPlaneOf(data), data: { ...data, members } });
  const command = flags(commandOf(found!.manifest));
  expect(["name", "initial-cluster", "initial-advertise-peer-urls"].map((flag) => command.get(flag))).toEqual([
    "m1",
    `m1=https://${ADDRESS}:2380`,
    `https://${ADDRESS}:2380`,
  ]);
});
