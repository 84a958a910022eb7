/**
 * Control plane nodes of kubespray and KubeKey whose etcd has lost its settings: every script says the same, and
 * changes nothing. Those whose etcd lives are rows of test/pretend/unlike-layout.ts; what 00-assess says is in
 * test/typed/00-assess-etcd-unit.test.ts.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { certInfo } from "../../shared/pki/certificate.ts";
import { write } from "../pretend/cluster.ts";
import { sameEtcd, serveUnit } from "../pretend/etcd.ts";
import { ETCD_PKI, KUBELET_ENV, nodeOf, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { expectRefusal, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const MAKERS = ["kubespray", "KubeKey"] as const;

const said = (by: string) =>
  new RegExp(
    `^etcd runs on this node as a systemd unit \\(/etc/systemd/system/etcd\\.service, data in /var/lib/etcd\\), as ${by} sets it up: /etc/etcd\\.env.* is missing, and no script makes it`,
  );
const HINT = /^\.\/bunw scripts\/00-assess\.ts says .*RUNBOOK-MORE "If etcd is a unit of this node"$/;

const LINES = WRITERS.filter((line) => !/^(00-salvage$|restore|03-join)/.test(line));
const CASES = MAKERS.flatMap((by) =>
  [true, false].flatMap((wiped) => LINES.map((line) => ({ by, wiped, line }))),
);

test.each(CASES)(
  "$line on a control plane node of $by (wiped: $wiped) says where etcd is, and changes nothing",
  async ({ by, wiped, line }) => {
    using node = await nodeOf(by, { wiped });
    rmSync(`${node.root}/etc/etcd.env`);
    write(`${node.root}/root/pass`, "three-words-and-more\n");
    await expectRefusal(node, line, said(by), HINT, 3);
  },
);

test.each(MAKERS)(
  "03-join on a wiped control plane node of %s is refused, as it would come back as a worker",
  async (by) => {
    using node = await nodeOf(by, { wiped: true });
    rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
    const said =
      /^This is a control plane node \(\/etc\/systemd\/system\/etcd\.service\): join is for workers$/;
    await expectRefusal(
      node,
      "03-join --server https://127.0.0.1:1 --ca-hash sha256:00",
      said,
      /02-control-plane/,
      3,
    );
  },
);

test.each(MAKERS)(
  "00-salvage on a wiped node of %s still looks for keys, misses no CA of etcd, and says what comes next",
  async (by) => {
    using node = await nodeOf(by, { wiped: true });
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run("00-salvage memory");
    expect(exitCode).toBe(2);
    expect(stderr).toContain("still lost: ca.key, front-proxy-ca.key, sa.key: ");
    expect(stderr).not.toMatch(/etcd\/(ca|client)/);
    expect(stderr).toMatch(/\nif they are nowhere: /);
    expect(stderr).toContain("./bunw scripts/01-etcd.ts --new-cas\n");
    expect(node.fingerprint()).toEqual(before);
  },
);

test("hand-over brings a wiped kubespray node the other's configuration of the kubelet, with its own address", async () => {
  const identity = await generateX25519Identity();
  const config = "/etc/kubernetes/kubelet-config.yaml";
  using well = await nodeOf("kubespray");
  write(well.root + config, `address: 10.0.0.12\n${well.read(config)}`);
  const to = await identityToRecipient(identity);
  expect((await well.run(`hand-over pack --to ${to} --out keys.age`)).stderr).toContain(
    "and the kubelet's configuration of that node",
  );
  using wiped = await nodeOf("kubespray", { wiped: true });
  write(`${wiped.root}/root/id`, `${identity}\n`);
  cpSync(`${well.root}/root/keys.age`, `${wiped.root}/root/keys.age`);
  const env = KUBELET_ENV.replaceAll(/^#.*\n|"/gm, "").replace("=w1", "=m1 --node-ip=10.0.0.11");
  write(`${wiped.root}/run/kubelet.environ`, env);
  const hash = certInfo(well.ca.cert).publicKeyHash;
  const { stderr } = await wiped.run(`hand-over unpack keys.age --identity id --ca-hash ${hash}`);
  expect(stderr).toContain(`wrote ${config} (`);
  expect(wiped.read(config)).toStartWith('address: "10.0.0.11"\n');
});

test("a drill on a node of kubespray's names no file as lost that comes back: the flags from the process, and the link", async () => {
  const shown = { command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" };
  using node = await nodeOf("kubespray", { commands: [shown] });
  const env = KUBELET_ENV.replaceAll(/^#.*\n|"/gm, "").replace("=w1", "=m1");
  write(`${node.root}/proc/4711/environ`, env.replaceAll("\n", "\0"));
  const words = [...env.matchAll(/--\S+/g)].map(([word]) => word);
  write(`${node.root}/proc/4711/cmdline`, `${["/usr/local/bin/kubelet", ...words].join("\0")}\0`);
  write(`${node.root}/etc/kubernetes/own.conf`, "");
  using _etcd = serveUnit(ETCD_PKI, { ...sameEtcd(node.stored), members: [UNIT_MEMBER] });
  using _api = serveRunning(node);
  const { stdout } = await node.run("drill");
  expect(stdout).toMatch(/kubelet-config\.yaml +!LOST!/);
  expect(stdout).toMatch(/not rebuilt, and named by no flag: \/etc\/kubernetes\/own\.conf\n/);
});

test("a distribution's own etcd on a node of kubeadm's changes nothing", async () => {
  using node = await pretendNode();
  write(
    `${node.root}/lib/systemd/system/etcd.service`,
    "[Service]\nEnvironmentFile=-/etc/default/etcd\nExecStart=/usr/bin/etcd\n",
  );
  const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  write(`${node.root}/etc/kubernetes/manifests/etcd.yaml`, "spec: {}\n");
  expect((await node.run("01-etcd --new-cas")).stderr).toContain("its etcd data is lost\n");
});
