/**
 * etcd's data directory is found by itself, only by what root or the control plane wrote; where several hold
 * data, the data proves one.
 */
import { expect, test } from "bun:test";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { stringify } from "yaml";
import { memberFolders } from "../../../shared/etcd-location/etcd-candidates.ts";
import { etcdDataOf } from "../../../shared/etcd-location/etcd-place.ts";
import { Fail } from "../../../shared/fail.ts";
import {
  ADDRESS,
  clusterObjects,
  healthyCp,
  manifest,
  mirrorPod,
  type Objects,
  otherCa,
  write,
} from "../../pretend/cluster.ts";
import { NODE, writeData } from "../../pretend/control-plane-node.ts";
import { mountsAs } from "../../pretend/etcd-elsewhere.ts";
import { cgroupFolder, USER } from "../../pretend/memory.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

const { ca, root } = await healthyCp();
const objects = clusterObjects(ca.cert);
const stranger = clusterObjects((await otherCa()).cert);
const CLIENT = await Bun.file(`${root}/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem`).text();
const UID = "0123456789abcdef0123456789abcdef";
const LOG = `/var/log/pods/kube-system_etcd-m1_${UID}/etcd/0.log`;
const RESCUE = "/root/kube-pki-repair-20260101T000000/etcd";

/** A node whose kubelet has a certificate of the cluster's CA. */
function nodeWith(places: Record<string, Objects>, files: Record<string, string> = {}) {
  const box = sandbox();
  const [, cgroup] = files["/proc/77/cgroup"]?.trim().split("::") ?? [];
  if (cgroup) cgroupFolder(box.dir, cgroup);
  write(`${box.dir}${NODE.kubelet.clientPem}`, CLIENT);
  for (const [dir, content] of Object.entries(places))
    writeData(box.dir + dir, content, { more: content === objects ? 2 : 0 });
  for (const [path, text] of Object.entries(files)) write(box.dir + path, text);
  return box;
}

/** etcd's manifest with its data, and its log, in these folders of the host. */
const etcdManifest = (dir: string, wal?: string) => stringify(mountsAs(manifest("etcd"), dir, wal));

const MANIFEST = "/etc/kubernetes/manifests/etcd.yaml";
const find = (typed?: string) => etcdDataOf(typed, { node: NODE, all: [] });
const failOf = async () => {
  const found = await find().catch((err) => err);
  if (!(found instanceof Fail)) throw new Error(`found ${JSON.stringify(found)}`);
  return { message: found.message, hint: found.hint };
};

test("the usual folder is in no question, and neither is none at all", async () => {
  using _empty = nodeWith({});
  expect(await find()).toEqual({ dir: "/var/lib/etcd", wal: undefined, why: "" });
  using _box = nodeWith({ "/var/lib/etcd": objects });
  expect(await find()).toEqual({ dir: "/var/lib/etcd", wal: undefined, why: "" });
});

test("etcd's manifest names it, with the log's folder, through the pod's mounts", async () => {
  using _box = nodeWith({ "/srv/etcd": objects }, { [MANIFEST]: etcdManifest("/srv/etcd", "/fast/wal") });
  expect(await find()).toEqual({ dir: "/srv/etcd", wal: "/fast/wal", why: MANIFEST });
});

/** /proc of a process called etcd, whose root file system has `at` from the host's `dir`. */
function processIn(
  cgroup: string,
  { dir, at, env }: { dir: string; at: string; env?: string },
): Record<string, string> {
  const mounts = (lines: string[]) => lines.map((one, i) => `${i} 1 ${one} rw - ext4 /dev/x rw`).join("\n");
  return {
    "/proc/1/cgroup": "0::/init.scope\n",
    "/proc/1/mountinfo": mounts(["8:1 / /", "8:2 / /srv"]),
    "/proc/77/comm": "etcd\n",
    "/proc/77/cgroup": `0::${cgroup}\n`,
    "/proc/77/cmdline": env ? "etcd\0" : `etcd\0--name=m1\0--data-dir=${at}\0`,
    "/proc/77/environ": env ?? "HOME=/\0",
    "/proc/77/mountinfo": mounts(["0:9 / /", `8:2 ${dir.replace("/srv", "")} ${at}`]),
  };
}

const POD_CGROUP = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID}.slice/cri-containerd-${"c".repeat(64)}.scope`;
const RECORD = { [LOG]: "" };

test("a running etcd names it, by its flag or its variable, through its mounts on the host", async () => {
  using _box = nodeWith(
    { "/srv/etcd": objects },
    { ...processIn(POD_CGROUP, { dir: "/srv/etcd", at: "/data" }), ...RECORD },
  );
  expect(await find()).toMatchObject({
    dir: "/srv/etcd",
    why: "process 77 (the container etcd of kube-system/etcd-m1)",
  });
  using _unit = nodeWith(
    { "/srv/etcd": objects },
    processIn("/system.slice/etcd.service", {
      dir: "/srv/etcd",
      at: "/srv/etcd",
      env: "ETCD_DATA_DIR=/srv/etcd\0",
    }),
  );
  expect(await find()).toMatchObject({
    dir: "/srv/etcd",
    why: "process 77 (the unit etcd.service of this node)",
  });
});

test("a tenant's process called etcd names nothing", async () => {
  const other = POD_CGROUP.replace(UID, "ffffffff-0000-0000-0000-000000000000".replaceAll("-", "_"));
  using _box = nodeWith(
    { "/srv/etcd": objects },
    { ...processIn(other, { dir: "/srv/etcd", at: "/data" }), ...RECORD },
  );
  expect((await find()).dir).toBe("/var/lib/etcd");
});

test("the copy of a repair that has begun knows the mirror pod", async () => {
  const moved = { ...objects, "pods/kube-system/etcd-m1": mountsAs(mirrorPod("etcd"), "/srv/etcd") };
  using _box = nodeWith({ "/srv/etcd": objects, [RESCUE]: moved });
  expect(await find()).toMatchObject({
    dir: "/srv/etcd",
    why: "its mirror pod in /root/kube-pki-repair-20260101T000000",
  });
});

test("one of the usual places is enough where nothing names another; the same folder by a link is the same", async () => {
  using box = nodeWith({ "/data/etcd": objects });
  expect(await find()).toEqual({ dir: "/data/etcd", wal: undefined, why: "the only place with data" });
  mkdirSync(`${box.dir}/var/lib`, { recursive: true });
  symlinkSync("/data/etcd", `${box.dir}/var/lib/etcd`);
  expect((await find()).dir).toBe("/var/lib/etcd");
});

test("where the named folder is not there, no other is taken: its disk may not be mounted", async () => {
  using _box = nodeWith({ "/var/lib/etcd": objects }, { [MANIFEST]: etcdManifest("/srv/etcd") });
  const { message, hint } = await failOf();
  expect(message).toBe(
    `etcd's data is not in "/srv/etcd" (${MANIFEST}), but there is some in "/var/lib/etcd"`,
  );
  expect(hint).toStartWith("see whether a disk is not mounted: findmnt /srv/etcd");
  expect(hint).toEndWith(" --etcd-data /var/lib/etcd");
});

test("a running etcd's folder counts, though its manifest names another since, where nothing is yet", async () => {
  using _box = nodeWith(
    { "/srv/etcd": objects },
    {
      ...{ [MANIFEST]: etcdManifest("/new/etcd"), ...RECORD },
      ...processIn(POD_CGROUP, { dir: "/srv/etcd", at: "/data" }),
    },
  );
  expect((await find()).dir).toBe("/srv/etcd");
});

test.each([
  ["first", [ca.cert, (await otherCa()).cert]],
  ["last", [(await otherCa()).cert, ca.cert]],
])(
  "while the CA is exchanged, data with two CAs counts, of which the %s signed this kubelet's certificate",
  async (_, pems) => {
    using _box = nodeWith({ "/var/lib/etcd": stranger, "/data/etcd": clusterObjects(pems.join("")) });
    expect((await find()).dir).toBe("/data/etcd");
  },
);

test("of several, the one whose CA signed this kubelet's certificate; the others are named", async () => {
  using _box = nodeWith({ "/var/lib/etcd": stranger, "/data/etcd": objects });
  const { dir, why } = await find();
  expect(dir).toBe("/data/etcd");
  expect(why).toMatch(
    /^its member m1 has this node's address, its CA signed this kubelet's certificate, revision 15, .*; not "\/var\/lib\/etcd" \(its member m1 has this node's address, its CA did not sign this kubelet's certificate, revision 13, /,
  );
});

test("a new, empty etcd at kubeadm's default path is not the cluster's, whatever its manifest says", async () => {
  using _box = nodeWith(
    { "/var/lib/etcd": {}, "/data/etcd": objects },
    { [MANIFEST]: etcdManifest("/var/lib/etcd") },
  );
  expect((await find()).dir).toBe("/data/etcd");
});

test("of two states of one member the one counts that etcd is started from, unless the other was written later", async () => {
  const older = { ...objects };
  using _unnamed = nodeWith({ "/var/lib/etcd": older, "/data/etcd": objects });
  expect((await failOf()).hint).toMatch(/ --etcd-data \/var\/lib\/etcd or .* --etcd-data \/data\/etcd$/);
  using _named = nodeWith(
    { "/var/lib/etcd": older, "/data/etcd": objects },
    { [MANIFEST]: etcdManifest("/data/etcd") },
  );
  expect((await find()).dir).toBe("/data/etcd");
  using _other = nodeWith(
    { "/var/lib/etcd": older, "/data/etcd": objects },
    { [MANIFEST]: etcdManifest("/var/lib/etcd") },
  );
  expect((await failOf()).message).toStartWith(
    "Several folders hold etcd's data, and nothing proves which is this cluster's: ",
  );
});

test.each([
  ["cannot be read", "nonsense"],
  ["has another member's data, and no CA to compare", undefined],
])("a named folder that %s is not passed over for another that is proved", async (_, db) => {
  using box = nodeWith({ "/var/lib/etcd": objects }, { [MANIFEST]: etcdManifest("/srv/etcd") });
  const sealed: [string, string][] = [
    ["/registry/namespaces/kube-system", "{}"],
    ["/registry/configmaps/kube-system/kube-root-ca.crt", "k8s:enc:aescbc:v1:key1:xyz"],
  ];
  writeEtcdData(`${box.dir}/srv/etcd`, { clusterId: "5", members: [{ ...MEMBER, id: "77" }], puts: sealed });
  if (db) write(`${box.dir}/srv/etcd/member/snap/db`, db);
  const { message, hint } = await failOf();
  expect(message).toContain(
    `"/srv/etcd" (named by ${MANIFEST}, ${db ? "cannot be read: " : "its member m1 has this node's address, no CA to compare, "}`,
  );
  expect(hint).toMatch(/ --etcd-data \/srv\/etcd or .* --etcd-data \/var\/lib\/etcd$/);
});

test("where nothing is there to compare with, only the one that etcd is started from counts", async () => {
  const places = { "/var/lib/etcd": objects, "/data/etcd": stranger };
  const noCertificate = (box: { dir: string }) => rmSync(`${box.dir}${NODE.kubelet.clientPem}`);
  using unnamed = nodeWith(places);
  noCertificate(unnamed);
  expect((await failOf()).message).toContain(
    '"/data/etcd" (its member m1 has this node\'s address, no CA to compare, ',
  );
  writeEtcdData(`${unnamed.dir}/data/etcd`, {
    clusterId: "5",
    members: [AWAY],
    puts: [["/registry/namespaces/kube-system", "{}"]],
  });
  expect((await failOf()).message).toContain('"/data/etcd" (its member has another address, ');
  using mirrored = nodeWith({
    ...places,
    [RESCUE]: { ...objects, "pods/kube-system/etcd-m1": mirrorPod("etcd") },
  });
  noCertificate(mirrored);
  expect((await failOf()).message).toContain(
    '"/var/lib/etcd" (named by its mirror pod in /root/kube-pki-repair-',
  );
  using started = nodeWith(
    { "/data/etcd": stranger, "/var/lib/etcd": objects },
    { [MANIFEST]: etcdManifest("/var/lib/etcd") },
  );
  noCertificate(started);
  expect(await find()).toMatchObject({
    dir: "/var/lib/etcd",
    why: expect.stringMatching(/^etcd is started from it /),
  });
});

const AWAY = { ...MEMBER, id: "77", peerURLs: ["https://10.0.0.99:2380"], clientURLs: [] };

const RESTORED = "/var/lib/etcd-from-backup";

/**
 * The old data in its place, and beside it an earlier state of it, restored: as another member, or with the
 * same ids; and when it was last written.
 */
function restored({
  id,
  files,
  minutes,
}: {
  id?: string;
  files: Record<string, string>;
  minutes: number | undefined;
}) {
  const box = nodeWith({ "/var/lib/etcd": objects, [RESTORED]: { ...objects } }, files);
  const puts = Object.entries(objects).map(([key, object]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(object),
  ]);
  if (id) writeEtcdData(box.dir + RESTORED, { clusterId: "5", members: [{ ...MEMBER, id }], puts });
  const now = Date.now();
  const setTime = (dir: string, after: number) => {
    const time = new Date(now + after * 60_000);
    for (const file of ["snap/db", `wal/${"0".repeat(16)}-${"0".repeat(16)}.wal`])
      if (existsSync(`${box.dir}${dir}/member/${file}`))
        utimesSync(`${box.dir}${dir}/member/${file}`, time, time);
  };
  setTime(RESTORED, minutes ?? 0);
  if (minutes === undefined) setTime("/var/lib/etcd", 0);
  return box;
}

const BY_MANIFEST = { [MANIFEST]: etcdManifest(RESTORED) };
const BY_PROCESS = { ...processIn(POD_CGROUP, { dir: "/srv/etcd", at: "/var/lib/etcd" }), ...RECORD };

test.each([
  ["another member", { id: "77", files: BY_MANIFEST, minutes: 5 }],
  ["another member, before its first start", { id: "77", files: BY_MANIFEST, minutes: -5 }],
  ["the same ids", { files: BY_MANIFEST, minutes: 5 }],
])(
  "restored beside the old data, %s: what is named counts, though its revision is lower",
  async (_, place) => {
    using _box = restored(place);
    const { dir, why } = await find();
    expect(dir).toBe(RESTORED);
    expect(why).toStartWith(`etcd is started from it (named by ${MANIFEST}, `);
    expect(why).toContain(
      `; ${"id" in place ? `"/var/lib/etcd" is of another member` : `not "/var/lib/etcd"`}`,
    );
    if (place.minutes > 0 && "id" in place)
      expect(why).toContain("is of another member, an older one (its member m1 ");
  },
);

test.each([
  ["two are named", { id: "77", files: { ...BY_MANIFEST, ...BY_PROCESS }, minutes: 5 }],
  ["the manifest names an earlier state of the same member", { files: BY_MANIFEST, minutes: -5 }],
  [
    "the manifest names a state of lower revision, of the same time",
    { files: BY_MANIFEST, minutes: undefined },
  ],
])("restored beside the old data, and %s: nothing is chosen", async (_, place) => {
  using box = restored(place);
  // what the process has as its data
  mkdirSync(`${box.dir}/srv`, { recursive: true });
  symlinkSync("/var/lib/etcd", `${box.dir}/srv/etcd`);
  expect((await failOf()).message).toStartWith("Several folders hold etcd's data, ");
});

test.each([{ id: "77" }, {}])(
  "restored beside the old data, %p, and nothing names a folder: the old one is not taken in silence",
  async (ids) => {
    using _box = restored({ ...ids, files: {}, minutes: 5 });
    const { message, hint } = await failOf();
    expect(message).toStartWith(
      `Nothing here names etcd's folder: there is data in "/var/lib/etcd", and newer data in "${RESTORED}" (20`,
    );
    expect(hint).toMatch(
      /^name the right one: .* --etcd-data \/var\/lib\/etcd or .* --etcd-data \/var\/lib\/etcd-from-backup$/,
    );
    using _older = restored({ ...ids, files: {}, minutes: -5 });
    expect(await find()).toMatchObject({ dir: "/var/lib/etcd", why: "" });
  },
);

test("folders of the kernel, of programs and of containers are not looked through", () => {
  using box = sandbox();
  const system = ["proc", "sys", "dev", "run", "usr", "boot", "snap", "nix", "var/log"];
  const containers = ["containerd", "containers", "docker", "crio", "kubelet"].map(
    (name) => `var/lib/${name}`,
  );
  for (const dir of [...system, ...containers, "srv", "var/lib/other"])
    mkdirSync(`${box.dir}/${dir}/etcd/member/snap`, { recursive: true });
  expect(memberFolders()).toEqual(["/srv/etcd", "/var/lib/other/etcd"]);
});

/** Later than the data in the usual folder; `his`: a user's folders. */
const LOOK_ALIKES: [what: string, dir: string, his: string[], counts: boolean][] = [
  ["a user's home", "/home/eve", ["/home/eve", "/home/eve/member"], false],
  ["a user's folder in his home", "/home/eve/etcd", ["/home/eve", "/home/eve/etcd"], false],
  ["root's folder in a user's home", "/home/eve/etcd", ["/home/eve"], false],
  ["a user's folder where everybody may make one", "/tmp/etcd", ["/tmp/etcd"], false],
  ["root's in a user's in root's", "/srv/web/a/etcd", ["/srv/web"], false],
  ["a member folder of a user's, in root's", "/srv/etcd", ["/srv/etcd/member"], false],
  ["root's folder, of which a user has a file", "/srv/etcd", ["/srv/etcd/member/snap"], true],
  ["root's", "/srv/old/etcd", [], true],
];

test.skipIf(process.getuid?.() !== 0).each(LOOK_ALIKES)(
  "data that nothing names, written later, in %s: only root's is in question",
  async (_, dir, his, counts) => {
    using box = nodeWith({ "/var/lib/etcd": objects, [dir]: objects });
    for (const name of readdirSync(`${box.dir}${dir}/member/wal`))
      utimesSync(`${box.dir}${dir}/member/wal/${name}`, LATER, LATER);
    for (const path of his) chownSync(box.dir + path, USER, USER);
    const found = await find().catch((err) => err);
    expect(found instanceof Fail).toBe(counts);
    if (!counts) expect(found).toMatchObject({ dir: "/var/lib/etcd", why: "" });
  },
);

const LATER = new Date(Date.now() + 3600_000);
test("a restored member at localhost counts only where something names it", async () => {
  const members = [{ id: "77", name: "default", peerURLs: ["http://localhost:2380"] }];
  const puts = Object.entries(objects).map(([key, object]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(object),
  ]);
  using box = nodeWith({ "/var/lib/etcd": objects }, { [MANIFEST]: etcdManifest(RESTORED) });
  writeEtcdData(box.dir + RESTORED, { clusterId: "5", members, puts });
  expect(await find()).toMatchObject({
    dir: RESTORED,
    why: expect.stringContaining(", its only member default is at localhost, "),
  });
  using other = nodeWith({ "/var/lib/etcd": objects });
  writeEtcdData(`${other.dir}/data/etcd`, { clusterId: "5", members, puts });
  expect((await failOf()).message).toContain("its only member default is at localhost");
});

test("where nothing proves one, each is named with the line to type", async () => {
  using box = nodeWith({ "/var/lib/etcd": objects, "/data/etcd": objects });
  const members = [{ id: "77", name: "m9", peerURLs: [`https://${ADDRESS}:2380`] }];
  const puts = Object.entries(objects).map(([key, object]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(object),
  ]);
  writeEtcdData(`${box.dir}/data/etcd`, { clusterId: "5", members, puts });
  const { message, hint } = await failOf();
  expect(message).toContain(
    "\"/var/lib/etcd\" (its member m1 has this node's address, its CA signed this kubelet's certificate, ",
  );
  expect(message).toContain('; "/data/etcd" (its member m9 has this node\'s address, ');
  expect(hint).toMatch(
    /^name the right one: \.\/bunw .* --etcd-data \/var\/lib\/etcd or \.\/bunw .* --etcd-data \/data\/etcd$/,
  );
  expect((await find("/data/etcd")).dir).toBe("/data/etcd");
});

test("a folder that is typed counts, and its log's folder is found", async () => {
  using box = nodeWith(
    { "/srv/etcd": objects, "/var/lib/etcd": objects },
    { [MANIFEST]: etcdManifest("/srv/etcd", "/fast") },
  );
  renameSync(`${box.dir}/srv/etcd/member/wal`, `${box.dir}/fast`);
  expect(await find("/srv/etcd")).toEqual({ dir: "/srv/etcd", wal: "/fast", why: "" });
});
