/** An address at no card of a machine: NAT leads it there, or the machine has moved. */
import { expect, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { lookPastNat } from "../../../shared/facts/control-plane-node.ts";
import { factsFor, natLeadsHere } from "../../../shared/facts/issue-facts.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import {
  ADDRESS,
  clusterObjects,
  FACTS,
  healthyCp,
  manifest,
  otherCa,
  write,
} from "../../pretend/cluster.ts";
import { NODE, pretendData, writeData } from "../../pretend/control-plane-node.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** Of a card, and no loopback. */
const CARD = "10.0.9.11";
/** Nobody answers at these. */
const [PUBLIC, SECOND, ELSEWHERE] = ["127.77.0.20", "127.77.0.61", "10.9.9.9"];

/** etcd listens at these, and its member is known at `known`. `disk`, `shown`: whose CA has signed what is there. */
async function isNat(listens: string[], { known = PUBLIC, disk = "", shown = "", given = "" } = {}) {
  const urls = (port: number) => listens.map((host) => `https://${host}:${port}`).join(",");
  const change = (objects: Record<string, object | string>) => {
    const [container] = (objects["pods/kube-system/etcd-m1"] as Manifest).spec.containers;
    container!.command = container!.command!.map((word) =>
      word
        .replace(/^(--listen-client-urls=).*/, `$1${urls(2379)}`)
        .replace(/^(--listen-peer-urls=).*/, `$1${urls(2380)}`),
    );
  };
  const data = await pretendData(change, [{ ...MEMBER, peerURLs: [`https://${known}:2380`] }]);
  const cluster = readCluster(data);
  using box = sandbox();
  const issuers = { ours: (await healthyCp()).ca, others: await otherCa() };
  const signedBy = (whose: string) =>
    issueLeaf(certRow("apiserver"), issuers[whose as keyof typeof issuers], {
      ...FACTS,
      advertiseAddress: PUBLIC,
    });
  if (disk) write(`${box.dir}/etc/kubernetes/pki/apiserver.crt`, (await signedBy(disk)).cert);
  using open = new DisposableStack();
  if (shown)
    open.adopt(
      Bun.serve({ hostname: ADDRESS, port: 6443, tls: await signedBy(shown), fetch: () => new Response() }),
      (server) => void server.stop(true),
    );
  const node = { ...NODE, addresses: [ADDRESS, SECOND] };
  return await natLeadsHere({ host: PUBLIC, port: 6443 }, { node, data, cluster }, given || undefined);
}

test.each<[string, Parameters<typeof isNat>, boolean]>([
  ["a machine that has moved, with all of its files", [["127.0.0.1", PUBLIC], { disk: "ours" }], false],
  ["one whose etcd is on a second network", [["127.0.0.1", SECOND], { known: SECOND, disk: "ours" }], false],
  ["one whose etcd listened at an address that is gone, too", [[ELSEWHERE], { disk: "ours" }], false],
  ["an etcd that listens everywhere, and nothing else", [["0.0.0.0"]], false],
  [
    "one at loopback alone, and another CA's certificate on the disk",
    [["127.0.0.1"], { disk: "others" }],
    false,
  ],
  ["the operator says another endpoint", [["127.0.0.1"], { given: `${SECOND}:6443` }], false],
  ["etcd listens at this machine's card, and is known at the public address", [["127.0.0.1", SECOND]], true],
  ["at loopback alone, and the certificate on the disk is for it", [["127.0.0.1"], { disk: "ours" }], true],
  ["at loopback alone, and the API server here shows one", [["127.0.0.1"], { shown: "ours" }], true],
  [
    "at loopback alone, and another cluster's API server shows one",
    [["127.0.0.1"], { shown: "others" }],
    false,
  ],
  ["everywhere, and the certificate on the disk is for it", [["0.0.0.0"], { disk: "ours" }], true],
  ["by the operator's word", [["0.0.0.0"], { given: `${PUBLIC}:6443` }], true],
])("NAT: %s", async (_, [listens, how], expected) => {
  expect(await isNat(listens, how)).toBe(expected);
});

const [PUB, KEY] = ["/etc/kubernetes/pki/sa.pub", "/etc/kubernetes/pki/sa.key"];

test.each<[string[], true | undefined]>([
  [[PUB], undefined],
  [[KEY], true],
  [[KEY, PUB], undefined],
  [["/etc/kubernetes/pki/sa-2024.pub", KEY], true],
  [[], undefined],
])("where --service-account-key-file names %p, sa.pub is not needed: %p", async (named, expected) => {
  const data = await pretendData((objects) => {
    const [container] = (objects["pods/kube-system/kube-apiserver-m1"] as Manifest).spec.containers;
    const others = container!.command!.filter((word) => !word.startsWith("--service-account-key-file="));
    container!.command = [...others, ...named.map((path) => `--service-account-key-file=${path}`)];
  });
  expect(factsFor(NODE, readCluster(data), data).withoutSaPub).toBe(expected as true);
});

test.each([
  [PUB, KEY],
  [KEY, PUB],
])(
  "where only one of the API server's manifest (%s) and its mirror pod (%s) names sa.pub, it is needed: either may come back",
  async (disk, mirror) => {
    using box = sandbox();
    const checksBy = (pod: Manifest, path: string) => {
      const [container] = pod.spec.containers;
      const others = container!.command!.filter((word) => !word.startsWith("--service-account-key-file="));
      container!.command = [...others, `--service-account-key-file=${path}`];
      return pod;
    };
    const onDisk = JSON.stringify(checksBy(manifest("kube-apiserver"), disk));
    write(`${box.dir}/etc/kubernetes/manifests/kube-apiserver.yaml`, onDisk);
    const data = await pretendData((objects) => {
      checksBy(objects["pods/kube-system/kube-apiserver-m1"] as Manifest, mirror);
    });
    expect(factsFor(NODE, readCluster(data), data).withoutSaPub).toBeUndefined();
  },
);

/** `[listens, the machine's address that NAT has, where etcd is asked]` */
test.each<[string[], string | undefined, string | undefined]>([
  [["127.0.0.1", ADDRESS], undefined, undefined],
  [["0.0.0.0"], undefined, undefined],
  [["0.0.0.0"], ADDRESS, "127.0.0.1"],
  [["127.0.0.1"], undefined, "127.0.0.1"],
  [["127.0.0.1", CARD], undefined, "127.0.0.1"],
  [[CARD], undefined, CARD],
])("an etcd that listens at %p is asked where it listens", async (listens, nat, expected) => {
  const data = await pretendData((objects) => {
    const [container] = (objects["pods/kube-system/etcd-m1"] as Manifest).spec.containers;
    container!.command!.push(`--listen-client-urls=${listens.map((host) => `https://${host}:2379`)}`);
  });
  const node = { ...NODE, addresses: [...NODE.addresses, CARD], ...(nat && { nat }) };
  expect(factsFor(node, readCluster(data), data).etcdAt?.client).toBe(expected as string);
});

test.each<[disk: string, mirror: string, asked: string | undefined]>([
  ["10.1.1.1", ADDRESS, undefined],
  ["10.1.1.1", "127.0.0.1", "127.0.0.1"],
  ["127.0.0.1", "10.1.1.1", "127.0.0.1"],
  ["10.1.1.1", "10.1.1.1", undefined],
])(
  "etcd's manifest on disk listens at %s, its mirror pod at %s: what is no address of this machine is not asked",
  async (disk, mirror, asked) => {
    using box = sandbox();
    const listensAt = (pod: Manifest, host: string) => {
      pod.spec.containers[0]!.command!.push(`--listen-client-urls=https://${host}:2379`);
      return pod;
    };
    write(`${box.dir}/etc/kubernetes/manifests/etcd.yaml`, JSON.stringify(listensAt(manifest("etcd"), disk)));
    const data = await pretendData((objects) => {
      listensAt(objects["pods/kube-system/etcd-m1"] as Manifest, mirror);
    });
    expect(factsFor(NODE, readCluster(data), data).etcdAt?.client).toBe(asked as string);
  },
);

test("behind NAT a machine keeps the addresses of its cards: etcd is asked there, not by way of NAT", async () => {
  using box = sandbox();
  const objects = clusterObjects((await healthyCp()).ca.cert);
  const [container] = (objects["pods/kube-system/etcd-m1"] as Manifest).spec.containers;
  for (const [kind, port] of [
    ["client", 2379],
    ["peer", 2380],
  ])
    container!.command!.push(`--listen-${kind}-urls=https://${CARD}:${port}`);
  writeData(`${box.dir}/var/lib/etcd`, objects);
  const { facts } = await lookPastNat(
    { dir: "/var/lib/etcd", wal: undefined },
    { ...NODE, addresses: [CARD] },
  );
  expect(facts).toMatchObject({ advertiseAddress: ADDRESS, etcdAt: { client: CARD, peer: CARD } });
});
