/**
 * Files that cannot be replaced in folders that can be written: immutable ones (chattr +i), and mounts of their own.
 * Each part that stops something asks them before. Needs root, and a file system with these flags.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { certRow } from "../../shared/pki/certs.ts";
import { kubeletKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { ADDRESS, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { join, newCa, serve, writeToken } from "../pretend/joining.ts";
import { longLives } from "../pretend/long-lives.ts";
import { type NodeOptions, pretendNode, routesOf } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

setDefaultTimeout(300_000);

function fix(...paths: string[]): Disposable {
  const chattr = (flag: string) => expect(Bun.spawnSync(["chattr", flag, ...paths]).exitCode).toBe(0);
  chattr("+i");
  return { [Symbol.dispose]: () => chattr("-i") };
}

const CONF = "/etc/kubernetes";
const OTHER = await otherCa();
const WELL = { kind: "healthy control plane node", etcd: longLives } as const;
const FORBIDDEN = /^Cannot write to \/etc\/kubernetes\/\S+: EPERM/;
const CHATTR = /^see which flag forbids it: lsattr -d \/etc\S+\. Take it off: chattr -ia \/etc/;

const RENEWED =
  (...names: string[]) =>
  ({ root }: PretendNode) =>
    expireCertificates(root, names.map(certRow));

test.each<[string, string, (node: PretendNode) => unknown, string]>([
  ["01-etcd", "pki/etcd/server.crt", RENEWED("etcd-server"), "a certificate"],
  ["01-etcd", "pki/etcd/peer.key", RENEWED("etcd-server", "etcd-peer"), "a key"],
  [
    "01-etcd",
    "manifests/kube-controller-manager.yaml",
    RENEWED("etcd-server"),
    "the manifest that begins reduced",
  ],
  ["02-control-plane", "pki/apiserver.crt", RENEWED("apiserver"), "a certificate"],
  ["02-control-plane", "manifests/kube-controller-manager.yaml", RENEWED("apiserver"), "a manifest"],
  [
    "02-control-plane",
    "kubelet.conf",
    async (node) => {
      await RENEWED("apiserver")(node);
      write(
        `${node.root}${CONF}/kubelet.conf`,
        kubeletKubeconfig({ server: `https://${ADDRESS}:6443`, ca: OTHER.cert }),
      );
    },
    "the kubelet's, which trusts another CA",
  ],
  ["renew-ca", "kubelet.conf", () => undefined, "a kubeconfig"],
])("%s: %s is immutable, and has to be replaced: nothing is stopped", async (line, file, change) => {
  using node = here(
    await pretendNode({ ...WELL, containers: ["etcd", "kube-apiserver", "kube-controller-manager"] }),
  );
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  await change(node);
  using _fixed = fix(`${node.root}${CONF}/${file}`);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  const [, error, hint] = /\nerror: (.+)\nhint: (.+(?:\n {2}.+)*)\n$/.exec(stderr) ?? [];
  expect({ exitCode, error, hint }).toEqual({
    exitCode: 1,
    error: expect.stringMatching(FORBIDDEN),
    hint: expect.stringMatching(CHATTR),
  });
  expect(node.calls().filter((call) => / stop |restart/.test(call))).toEqual([]);
  expect(node.fingerprint()).toEqual(before);
});

test.each(["/var/lib/etcd/member/snap", "/var/lib/etcd/member/wal"])(
  "02-control-plane: etcd, which runs, cannot write to %s: nothing is stopped",
  async (folder) => {
    using node = here(await pretendNode({ ...WELL, containers: ["etcd", "kube-apiserver"] }));
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    using _api = servePart2(node);
    await RENEWED("apiserver")(node);
    using _fixed = fix(`${node.root}${folder}`);
    await expectRefusal(
      node,
      "02-control-plane",
      `Cannot write to ${folder}: EPERM`,
      /^see which flag forbids it/,
    );
    expect(node.calls().filter((call) => / stop |restart/.test(call))).toEqual([]);
  },
);

test("files that nobody replaces may be immutable: the parts run on a node that is well", async () => {
  using node = here(
    await pretendNode({ ...WELL, etcd: () => undefined, containers: ["etcd", "kube-apiserver"] }),
  );
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const files = ["admin.conf", "kubelet.conf", "pki/apiserver.crt", "manifests/kube-apiserver.yaml"];
  using _fixed = fix(...files.map((file) => `${node.root}${CONF}/${file}`));
  for (const line of ["01-etcd", "02-control-plane"])
    expect(await node.run(line)).toMatchObject({ exitCode: 0 });
});

test("join and move refuse before they stop a worker's kubelet", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  writeToken(node.root);
  using _api = await serve(newCa);
  using _fixed = fix(`${node.root}${CONF}/kubelet.conf`);
  for (const line of [join(), `move --moved ${ADDRESS}=127.66.0.11`]) {
    const { exitCode, stderr } = await node.run(line);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringMatching(/\nerror: Cannot write to .*EPERM/),
    });
  }
  expect(node.calls().filter((call) => /systemctl (stop|start|restart)/.test(call))).toEqual([]);
});

test("move refuses on a control plane node", async () => {
  using node = here(await pretendNode({ ...WELL, commands: routesOf("127.66.0.11") }));
  using _fixed = fix(`${node.root}${CONF}/manifests/etcd.yaml`);
  await expectRefusal(node, "move", FORBIDDEN, CHATTR);
});

test.each<[string, string, NodeOptions]>([
  ["02-control-plane", "pki/apiserver.crt", WELL],
  ["move", "manifests/etcd.yaml", { ...WELL, commands: routesOf("127.66.0.11") }],
  [`move --moved ${ADDRESS}=127.66.0.11`, "kubelet.conf", { kind: "worker" }],
])(
  "%s: %s is a mount of its own, and cannot be replaced: it is named before anything is stopped",
  async (line, file, options) => {
    const containers = options.kind === "worker" ? [] : ["kube-apiserver", "kube-controller-manager"];
    using node = here(await pretendNode({ ...options, containers }));
    using serves = new DisposableStack();
    if (line === "02-control-plane") {
      serves.use(serveEtcd(node.root, sameEtcd(node.stored)));
      serves.use(servePart2(node));
      await expireCertificates(node.root, [certRow("apiserver")]);
    }
    const at = `${CONF}/${file}`;
    write(
      `${node.root}/proc/self/mountinfo`,
      `23 22 0:30 /x ${at} rw - ext4 /dev/sda rw\n24 22 0:30 / ${CONF} rw - ext4 /dev/sda rw\n`,
    );
    await expectRefusal(node, line, `Cannot replace "${at}": it is a mount of its own`, /findmnt .*umount/);
  },
);
