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
setDefaultTimeout(60_000);

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
      objects["pods/kube-system/kube-proxy-x"] = { apiVersion: "v1", kind: "Pod", metadata: { name: "kube-proxy-x", uid: "uid-of-proxy" } };
    },
  });
  const token = tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1_790_000_000 });
  write(`${node.root}/var/lib/kubelet/pods/uid-of-proxy/volumes/kubernetes.io~projected/kube-api-access-1/token`, token);
  return node;
}

async function withPassphrase() {
  const node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/root/pass`, "three-words-and-more\n");
  chmodSync(`${node.root}/root/pass`, 0o600);
  return node;
}

const PACK = "hand-over pack --passphrase-file pass --out keys.age";

/** Copies a folder of the node into memory that has so much room. */
function memoryDisk(folder: string, size: string): string {
  return `cp -a ${folder} ${folder}.was; mount -t tmpfs -o size=${size},mode=755 full ${folder}; cp -a ${folder}.was/. ${folder}/; rm -rf ${folder}.was`;
}

/** The same, and nothing more fits. */
const fullDisk = (folder: string) => `${memoryDisk(folder, "256k")}; cat /dev/zero > ${folder}/full 2>/dev/null || true`;

const NO_SPACE = /no space left on device/;

/** [what, line, node, folder that is full, error, hint] */
const FULL: [what: string, line: string, node: () => Promise<Node>, folder: string, error: RegExp, hint: RegExp][] = [
  [
    "01-etcd",
    "01-etcd --new-cas",
    () => pretendNode(),
    "/root",
    /^No room for the copy below "\/root": it needs \d+ MB, \d+ MB are free$/,
    /df -h \/root/,
  ],
  [
    "01-etcd of a healthy node",
    "01-etcd",
    () => pretendNode({ kind: "healthy control plane node" }),
    "/root",
    /^No room for the copy/,
    /df -h \/root/,
  ],
  ["join", join(), joining, "/root", NO_SPACE, /^make room there: df -h \/root/],
  ["join", join(), joining, "/etc/kubernetes", NO_SPACE, /^make room there: df -h \/etc\/kubernetes/],
  ["join", join(), joining, "/etc/kubernetes/pki", NO_SPACE, /^make room there: df -h \/etc\/kubernetes\/pki/],
  ["00-token-key", "00-token-key", withOldToken, "/etc/kubernetes/pki", NO_SPACE, /^make room there: df -h \/etc\/kubernetes\/pki/],
  ["hand-over pack", PACK, withPassphrase, "/root", NO_SPACE, /^make room there: df -h \/root/],
];

test.each(FULL)(
  "%s (%s) on a full disk: nothing is lost, nothing half-written, the kubelet runs",
  async (_, line, made, folder, error, hint) => {
    using node = await made();
    using _api = line === join() ? await serve(newCa) : undefined;
    await using host = await ownMounts(line.startsWith("01") ? memoryDisk(node.root + folder, "30m") : fullDisk(node.root + folder));
    const files = () => withoutTimes(unkept(node.fingerprint(host.path)));
    const before = files();
    const said = await node.run(line, {}, host.inside);
    expectStop(said, error, hint);
    expect(files()).toEqual(before);
    const turned = node.calls().filter((call) => CHANGES.test(call));
    expect(turned.at(-1) ?? "none").toBe(turned.length > 0 ? "systemctl start kubelet" : "none");
  },
);

/** Folders' times change where a file came and went; a roll back keeps its copies in the rescue folder. */
function withoutTimes(fingerprint: string[]): string[] {
  return fingerprint
    .filter((line) => !/^root\/kube-pki-repair-\d+T\d+\/(before|failed)\//.test(line))
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
    const hint = new RegExp(`^it can only be read\\. Why\\? findmnt -T ${folder}`);
    expectStop(await node.run(line, {}, host.inside), /read-only file system/, hint);
    expect(node.fingerprint()).toEqual(before);
    expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
  },
);

/** Holds the lock as another run does. */
async function lockedNode() {
  const node = await withPassphrase();
  write(node.root + LOCK, "4711 (01-etcd, since 2026-11-26 02:03:04 UTC)");
  const holder = Bun.spawn(["flock", "-n", node.root + LOCK, "sh", "-c", "echo held; exec cat"], { stdin: "pipe", stdout: "pipe" });
  await holder.stdout.getReader().read();
  return { node, holder };
}

test.each(WRITERS.filter((line) => !/approve|00-token-key|join-again/.test(line)))(
  "%s beside another run is kept out, and says whose",
  async (line) => {
    const { node, holder } = await lockedNode();
    using _node = node;
    const error = /^This node is locked by process 4711 \(01-etcd, since DATE 02:03:04 UTC\)$/;
    await expectRefusal(node, line, error, /^nothing was changed\. Wait until that run has ended, or look at it: ps -fp 4711\./, 4);
    holder.stdin.end();
    await holder.exited;
    expect((await node.run(`${line} --dry-run`)).exitCode).not.toBe(4);
  },
);

test.each(["00-assess", "05-verify", "01-etcd --dry-run", "03-workers approve", "00-token-key", "hand-over files"])(
  "%s beside another run is not kept out: it changes nothing that the other one needs",
  async (line) => {
    const { node, holder } = await lockedNode();
    using _node = node;
    const { exitCode, stderr } = await node.run(line);
    expect({ exitCode, stderr }).not.toMatchObject({ exitCode: 4 });
    expect(stderr).not.toContain("locked");
    holder.stdin.end();
    await holder.exited;
  },
);

test("01-etcd twice at once: the second is kept out, the first goes on, and leaves no lock", async () => {
  const stop = { command: "systemctl stop kubelet", does: 'while test ! -e "$FAKE/go"; do :; done; echo > "$FAKE/stopped"' };
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
  expect(await node.run(join())).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("== Roll back: ") });
  expect(node.exists(LOCK)).toBe(false);
});

test("where flock is missing a script warns, and goes on", async () => {
  using node = await pretendNode({ without: ["flock"] });
  const { stderr } = await node.run("02-control-plane");
  expect(stderr).toContain("  warning: flock (util-linux) is missing: ");
  expect(stderr).toContain("error: etcd's certificates are not there\n");
});

test("open whose token file does not fit on the disk says so; run again, it revokes the first token", async () => {
  using node = await afterPart2();
  using api = serveRunning(node);
  await using host = await ownMounts(fullDisk(`${node.root}/root`));
  expectStop(await node.run("03-workers open", {}, host.inside), NO_SPACE, /^make room there: df -h \/root/);
  const [first] = api.changes().filter((change) => change.startsWith("POST") && change.endsWith("/secrets"));
  expect({ first, token: existsSync(host.path(`${node.root}/root/token`)) }).toEqual({ first: expect.any(String), token: false });
  expect(await node.run("03-workers open")).toMatchObject({ exitCode: 0 });
  expect(api.changes().filter((change) => /^DELETE .*bootstrap-token-/.test(change))).toHaveLength(1);
});

test("a folder with a copy that did not fit has no .partial, also where it is a whole tree", async () => {
  using node = await joining();
  using _api = await serve(newCa);
  await using host = await ownMounts(memoryDisk(`${node.root}/root`, "16k"));
  await node.run(join(), {}, host.inside);
  const names = readdirSync(host.path(`${node.root}/root`), { recursive: true, encoding: "utf8" });
  expect(names.filter((name) => name.includes(".partial"))).toEqual([]);
  expect(kubeletFiles(node).some((line) => line.includes("bootstrap-kubelet.conf"))).toBe(false);
});
