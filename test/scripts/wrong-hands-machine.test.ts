/** Wrong hands: a full disk, a folder that can only be read, and two runs at once. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { afterPart2 } from "../pretend/after-part2.ts";
import { write } from "../pretend/cluster.ts";
import { join, kubeletFiles, newCa, serve, writeToken } from "../pretend/joining.ts";
import { unkept } from "../pretend/kept.ts";
import { ownMounts } from "../pretend/mounts.ts";
import { pretendNode } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { serveRunning } from "../pretend/running.ts";
import { expectRefusal, expectStop, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

type Node = Awaited<ReturnType<typeof pretendNode>>;

const LOCK = "/run/kube-pki-repair.lock";
const CHANGES = /systemctl (stop|start|restart)|crictl .* stop|systemd-run/;

async function joining() {
  const node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  return node;
}

/** A control plane node with an old token, for 00-token-key. */
async function withOldToken() {
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => {
      objects["pods/kube-system/kube-proxy-x"] = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "kube-proxy-x", uid: "uid-of-proxy" },
      };
    },
  });
  const token = tokenBy(newKeyOf("ECDSA-P256"), {
    alg: "ES256",
    of: "kube-system:kube-proxy",
    issuedAt: 1_790_000_000,
  });
  write(
    `${node.root}/var/lib/kubelet/pods/uid-of-proxy/volumes/kubernetes.io~projected/kube-api-access-1/token`,
    token,
  );
  return node;
}

async function withPassphrase() {
  const node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/root/pass`, "three-words-and-more\n");
  chmodSync(`${node.root}/root/pass`, 0o600);
  return node;
}

const PACK = "hand-over pack --passphrase-file pass --out keys.age";

/** Copies a folder of the node into memory that has so much room: `size=30m`, `size=64m,nr_inodes=50`. */
function memoryDisk(folder: string, room: string): string {
  return `cp -a ${folder} ${folder}.was; mount -t tmpfs -o ${room},mode=755 full ${folder}; cp -a ${folder}.was/. ${folder}/; rm -rf ${folder}.was`;
}

/** Makes a disk of a folder of the node. */
type Disk = (folder: string) => string;

const small: Disk = (folder) => memoryDisk(folder, "size=30m");
const fill = (folder: string) => `cat /dev/zero > ${folder}/full 2>/dev/null || true`;
/** Nothing more fits. */
const full: Disk = (folder) => `${memoryDisk(folder, "size=2m")}; ${fill(folder)}`;
const withoutInodes: Disk = (folder) => memoryDisk(folder, "size=200m,nr_inodes=80");

/** A worker whose disk fills up while its kubelet is stopped. */
const fillsUp = (folder: string) => async () => {
  const does = `echo > "$FAKE/stopped"; ${fill(`"$KUBE_PKI_REPAIR_ROOT"${folder}`)}`;
  const node = await pretendNode({ kind: "worker", commands: [{ command: "systemctl stop kubelet", does }] });
  writeToken(node.root);
  return node;
};

const NO_SPACE = /no space left on device/;
const noRoom = (folder: string) =>
  new RegExp(`^No room in "${folder}": \\d+ MB are needed, \\d+ MB are free$`);
const noInodes = (folder: string) =>
  new RegExp(`^No room in "${folder}": \\d+ inodes are needed, \\d+ are free$`);
const MAKE_ROOM = /^make room there \(df -h \/.*; df -i \/.*\)/;
const wiped = () => pretendNode();
const healthy = () => pretendNode({ kind: "healthy control plane node" });

/** [what, line, node, folder that is full, its disk, error, hint] */
const FULL: [
  what: string,
  line: string,
  node: () => Promise<Node>,
  folder: string,
  disk: Disk,
  error: RegExp,
  hint: RegExp,
][] = [
  [
    "01-etcd",
    "01-etcd --new-cas",
    wiped,
    "/root",
    small,
    /^No room for the copy below "\/root": it needs \d+ MB, \d+ MB are free$/,
    /df -h \/root/,
  ],
  ["01-etcd of a healthy node", "01-etcd", healthy, "/root", small, /^No room for the copy/, /df -h \/root/],
  ["01-etcd", "01-etcd --new-cas", wiped, "/root", withoutInodes, noInodes("/root"), MAKE_ROOM],
  ...["/etc/kubernetes", "/var/lib/kubelet/pki", "/var/lib/etcd"].flatMap(
    (folder): (typeof FULL)[number][] => [
      ["01-etcd", "01-etcd --new-cas", wiped, folder, full, noRoom(folder), MAKE_ROOM],
      ["01-etcd", "01-etcd --new-cas", wiped, folder, withoutInodes, noInodes(folder), MAKE_ROOM],
    ],
  ),
  [
    "02-control-plane",
    "02-control-plane",
    healthy,
    "/etc/kubernetes",
    full,
    noRoom("/etc/kubernetes"),
    MAKE_ROOM,
  ],
  [
    "02-control-plane",
    "02-control-plane",
    healthy,
    "/var/lib/kubelet/pki",
    full,
    noRoom("/var/lib/kubelet/pki"),
    MAKE_ROOM,
  ],
  ["join", join(), joining, "/root", full, noRoom("/root"), MAKE_ROOM],
  ["join", join(), joining, "/etc/kubernetes", full, noRoom("/etc/kubernetes"), MAKE_ROOM],
  ["join", join(), joining, "/etc/kubernetes/pki", full, noRoom("/etc/kubernetes/pki"), MAKE_ROOM],
  ["join", join(), joining, "/etc/kubernetes", withoutInodes, noInodes("/etc/kubernetes"), MAKE_ROOM],
  ["join", join(), joining, "/var/lib/kubelet/pki", full, noRoom("/var/lib/kubelet/pki"), MAKE_ROOM],
  [
    "join",
    join(),
    fillsUp("/etc/kubernetes"),
    "/etc/kubernetes",
    small,
    NO_SPACE,
    /^make room there: df -h \/etc\/kubernetes/,
  ],
  [
    "join",
    join(),
    fillsUp("/etc/kubernetes/pki"),
    "/etc/kubernetes/pki",
    small,
    NO_SPACE,
    /^make room there: df -h \/etc\/kubernetes\/pki/,
  ],
  [
    "00-token-key",
    "00-token-key",
    withOldToken,
    "/etc/kubernetes/pki",
    full,
    NO_SPACE,
    /^make room there: df -h \/etc\/kubernetes\/pki/,
  ],
  ["hand-over pack", PACK, withPassphrase, "/root", full, NO_SPACE, /^make room there: df -h \/root/],
];

test.each(FULL)(
  "%s (%s) on a full disk: nothing is lost, nothing half-written, the kubelet runs",
  async (_, line, made, folder, disk, error, hint) => {
    using node = await made();
    using _api = line === join() ? await serve(newCa) : undefined;
    mkdirSync(node.root + folder, { recursive: true });
    await using host = await ownMounts(disk(node.root + folder));
    const files = () => withoutTimes(unkept(node.fingerprint(host.path)));
    const before = files();
    const said = await node.runAlone(line, {}, host.inside);
    expectStop(said, error, hint);
    expect(files()).toEqual(before);
    const turned = node.calls().filter((call) => CHANGES.test(call));
    const stops = error === NO_SPACE && line === join();
    expect(turned).toEqual(
      stops ? ["systemctl stop kubelet", "systemctl stop kubelet", "systemctl start kubelet"] : [],
    );
  },
);

/** Folders' times change where a file came and went; a roll back keeps its copies in the rescue folder. */
function withoutTimes(fingerprint: string[]): string[] {
  return fingerprint
    .filter(
      (line) => !/^root\/kube-pki-repair-\d+T\d+\/(before|failed)\//.test(line) && !/\/full /.test(line),
    )
    .filter((line) => !/^\S+ 4/.test(line))
    .map((line) => line.split(" ").toSpliced(3, 1).join(" "));
}

/** [what, line, node, folder that can only be read] */
const READ_ONLY: [what: string, line: string, node: () => Promise<Node>, folder: string][] = [
  ["01-etcd", "01-etcd --new-cas", () => pretendNode(), "/etc"],
  ["01-etcd", "01-etcd --new-cas", () => pretendNode(), "/root"],
  ["01-etcd", "01-etcd --new-cas", () => pretendNode(), "/var/lib/kubelet"],
  ["join", join(), joining, "/etc"],
  ["join", join(), joining, "/root"],
  ["join", join(), joining, "/var/lib/kubelet"],
  ["00-token-key", "00-token-key", withOldToken, "/etc"],
  ["hand-over pack", PACK, withPassphrase, "/root"],
  ["hand-over pack", PACK, withPassphrase, "/etc"],
];

test.each(READ_ONLY)(
  "%s (%s) where a folder can only be read: it says which, before anything is stopped",
  async (_, line, made, folder) => {
    using node = await made();
    using _api = line === join() ? await serve(newCa) : undefined;
    mkdirSync(node.root + folder, { recursive: true });
    await using host = await ownMounts(
      `mount --bind ${node.root}${folder} ${node.root}${folder}; mount -o remount,bind,ro ${node.root}${folder}`,
    );
    const before = node.fingerprint();
    const hint = new RegExp(`^see why it can only be read: findmnt -T ${folder}`);
    expectStop(await node.runAlone(line, {}, host.inside), /read-only file system/, hint);
    expect(node.fingerprint()).toEqual(before);
    expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
  },
);

/** Holds the lock as another run does. */
async function lockedNode() {
  const node = await withPassphrase();
  write(node.root + LOCK, "4711 (01-etcd, since 2026-11-26 02:03:04 UTC)");
  const holder = Bun.spawn(["flock", "-n", node.root + LOCK, "sh", "-c", "echo held; exec cat"], {
    stdin: "pipe",
    stdout: "pipe",
  });
  await holder.stdout.getReader().read();
  return { node, holder };
}

test.each(WRITERS.filter((line) => !/approve|00-token-key|join-again/.test(line)))(
  "%s beside another run is kept out, and says whose",
  async (line) => {
    const { node, holder } = await lockedNode();
    using _node = node;
    const error = /^This node is locked by process 4711 \(01-etcd, since DATE 02:03:04 UTC\)$/;
    await expectRefusal(
      node,
      line,
      error,
      /^wait until that run has finished, or look at it: ps -fp 4711\./,
      4,
    );
    holder.stdin.end();
    await holder.exited;
    expect((await node.run(`${line} --dry-run`)).exitCode).not.toBe(4);
  },
);

test.each([
  "00-assess",
  "05-verify",
  "01-etcd --dry-run",
  "03-workers approve",
  "00-token-key",
  "hand-over files",
])("%s beside another run is not kept out: it changes nothing that the other one needs", async (line) => {
  const { node, holder } = await lockedNode();
  using _node = node;
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).not.toMatchObject({ exitCode: 4 });
  expect(stderr).not.toContain("locked");
  holder.stdin.end();
  await holder.exited;
});

test("01-etcd twice at once: the second is kept out, the first goes on, and leaves no lock", async () => {
  const stop = {
    command: "systemctl stop kubelet",
    does: 'while test ! -e "$FAKE/go"; do :; done; echo > "$FAKE/stopped"',
  };
  using node = await pretendNode({ commands: [stop] });
  const first = node.run("01-etcd --new-cas");
  await node.called("systemctl stop kubelet");
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  const pid = /^(\d+) \(01-etcd, since /.exec(node.read(LOCK))?.[1];
  expect({ exitCode, stderr }).toEqual({
    exitCode: 4,
    stderr: expect.stringContaining(`error: This node is locked by process ${pid} (01-etcd, since `),
  });
  write(`${node.env.FAKE}/go`, "");
  expect((await first).stderr).toContain("== 1.7 ");
  expect(node.exists(LOCK)).toBe(false);
});

test("the lock of a run that was killed keeps nobody out", async () => {
  using node = await joining();
  using _api = await serve(newCa);
  const child = node.start(join(), { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl start kubelet");
  child.kill("SIGKILL");
  await child.exited;
  expect(node.exists(LOCK)).toBe(true);
  expect(await node.run(join())).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("== Roll back: "),
  });
  expect(node.exists(LOCK)).toBe(false);
});

test("where flock is missing a script warns, and goes on", async () => {
  using node = await pretendNode({ without: ["flock"] });
  const { stderr } = await node.run("02-control-plane");
  expect(stderr).toContain("  warning: flock (util-linux) is missing: ");
  expect(stderr).toContain("error: etcd's certificates are not there\n");
});

test("open whose token file does not fit on the disk says so; run again, it revokes the first tokens", async () => {
  using node = await afterPart2();
  using api = serveRunning(node);
  await using host = await ownMounts(full(`${node.root}/root`));
  expectStop(
    await node.runAlone("03-workers open", {}, host.inside),
    NO_SPACE,
    /^make room there: df -h \/root/,
  );
  const [first] = api.changes().filter((change) => change.startsWith("POST") && change.endsWith("/secrets"));
  expect({ first, token: existsSync(host.path(`${node.root}/root/token.d/w1/token`)) }).toEqual({
    first: expect.any(String),
    token: false,
  });
  expect(await node.run("03-workers open")).toMatchObject({ exitCode: 0 });
  expect(api.changes().filter((change) => /^DELETE .*bootstrap-token-/.test(change))).toHaveLength(2);
});

test("a folder with a copy that did not fit has no .partial, also where it is a whole tree", async () => {
  using node = await joining();
  using _api = await serve(newCa);
  write(`${node.root}/var/lib/kubelet/pki/large`, "x".repeat(40_000_000));
  await using host = await ownMounts(small(`${node.root}/root`));
  expectStop(await node.runAlone(join(), {}, host.inside), NO_SPACE, /^make room there: df -h \/root/);
  const names = readdirSync(host.path(`${node.root}/root`), { recursive: true, encoding: "utf8" });
  expect(names.filter((name) => name.includes(".partial"))).toEqual([]);
  expect(kubeletFiles(node).some((line) => line.includes("bootstrap-kubelet.conf"))).toBe(false);
});
