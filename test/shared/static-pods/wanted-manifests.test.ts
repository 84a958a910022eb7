/**
 * A manifest made from another control plane node's: etcd's first members are this node's own, and those of
 * its data.
 */

import { expect, test } from "bun:test";
import { commandOf, flags } from "../../../shared/manifests/command.ts";
import { manifestFromPeer } from "../../../shared/static-pods/wanted-manifests.ts";
import { ADDRESS, mirrorPod } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const M2 = "127.77.0.12";
const ofM2 = (value: unknown, address = M2) =>
  JSON.parse(
    JSON.stringify(value).replaceAll(ADDRESS, address).replaceAll('m1"', 'm2"').replaceAll("m1=", "m2="),
  );

test("the other node's API server and etcd are at another address than its Node: this node has its own in its place", async () => {
  const data = await pretendData((objects) => {
    objects["minions/m2"] = ofM2(objects["minions/m1"], "127.77.9.12");
    for (const name of ["kube-apiserver", "etcd"])
      objects[`pods/kube-system/${name}-m2`] = ofM2(mirrorPod(name));
  });
  using _box = sandbox();
  const cp = controlPlaneOf(data);
  for (const name of ["kube-apiserver", "etcd"]) {
    const text = JSON.stringify(manifestFromPeer(name, cp)!.manifest);
    expect([text.includes(M2), text.includes(ADDRESS)]).toEqual([false, true]);
  }
});

test.each([
  ["m1", `https://${ADDRESS}:2380`],
  ["default", "http://localhost:2380"],
])("a lone member %s at %s: the flags name this node at its address", async (name, peerURL) => {
  const data = await pretendData((objects) => {
    objects["minions/m2"] = ofM2(objects["minions/m1"]);
    objects["pods/kube-system/etcd-m2"] = ofM2(mirrorPod("etcd"));
  });
  using _box = sandbox();
  // m2's member is taken out since
  const members = data.members.slice(0, 1).map((member) => ({ ...member, name, peerURLs: [peerURL] }));
  const found = manifestFromPeer("etcd", { ...controlPlaneOf(data), data: { ...data, members } });
  const command = flags(commandOf(found!.manifest));
  expect(["name", "initial-cluster", "initial-advertise-peer-urls"].map((flag) => command.get(flag))).toEqual(
    ["m1", `m1=https://${ADDRESS}:2380`, `https://${ADDRESS}:2380`],
  );
});
