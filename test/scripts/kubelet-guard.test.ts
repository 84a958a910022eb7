/**
 * A kubelet without its files is never started or restarted: kubespray's would run without any flag, and end
 * every pod of the node.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { KUBELET_ENV, KUBESPRAY_KUBELET, kubeletsJournal } from "../pretend/etcd-as-unit.ts";
import { join, newCa, serve, writeToken } from "../pretend/joining.ts";
import { KUBEADM_UNIT, pretendNode } from "../pretend/node.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { expectRefusal, expectStop } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const ENV_FILE = "/etc/kubernetes/kubelet.env";
const CONFIG = "/etc/kubernetes/kubelet-config.yaml";

const kubespray = (unit = KUBESPRAY_KUBELET): FakeCommand[] => [
  { command: "systemctl cat kubelet", stdout: unit },
];

async function worker({ env = true, config = true, unit = KUBESPRAY_KUBELET } = {}) {
  const node = await pretendNode({ kind: "worker", commands: kubespray(unit) });
  if (env) write(node.root + ENV_FILE, KUBELET_ENV);
  if (config) write(node.root + CONFIG, node.read("/var/lib/kubelet/config.yaml"));
  return node;
}

const NO_ENV =
  /^The kubelet would be started without --kubeconfig, and would stop every pod of this node: "\/etc\/kubernetes\/kubelet\.env" is missing, which its unit reads flags from$/;

test("join on a kubespray worker whose kubelet.env is gone refuses, and stops nothing", async () => {
  using node = await worker({ env: false });
  writeToken(node.root);
  await expectRefusal(
    node,
    join(),
    NO_ENV,
    /^do not start this kubelet before the file is back\. .*another node/,
  );
  await expectRefusal(node, `${join()} --dry-run`, NO_ENV, /^do not start/);
});

test("join on such a worker that still runs says how the flags are saved from its process", async () => {
  using node = await pretendNode({
    kind: "worker",
    commands: [...kubespray(), { command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" }],
  });
  write(
    `${node.root}/proc/4711/cmdline`,
    "/usr/local/bin/kubelet\0--v=2\0--kubeconfig=/etc/kubernetes/kubelet.conf\0",
  );
  writeToken(node.root);
  await expectRefusal(node, join(), NO_ENV, /\/proc\/4711\/environ/);
});

test.each<[string, string, RegExp]>([
  [
    "a configuration",
    CONFIG,
    /^The kubelet cannot start: "\/etc\/kubernetes\/kubelet-config\.yaml" is missing, which --config names$/,
  ],
  [
    "a file of its unit that must be there",
    "/etc/kubelet.hard",
    /^The kubelet cannot start: "\/etc\/kubelet\.hard" is missing, which /,
  ],
])("join refuses where %s is gone", async (_, path, error) => {
  using node = await worker({ unit: `${KUBESPRAY_KUBELET}EnvironmentFile=/etc/kubelet.hard\n` });
  write(`${node.root}/etc/kubelet.hard`, "A=b\n");
  rmSync(node.root + path);
  writeToken(node.root);
  await expectRefusal(node, join(), error, /^bring it back first/);
});

test("join on a kubespray worker with all its files goes as far as its kubelet's certificate", async () => {
  using node = await worker();
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  writeToken(node.root);
  using _api = await serve(newCa);
  const { stderr } = await node.run(join());
  expect(stderr).toContain("Waited 120 s for the kubelet to get its certificate");
  expect(node.calls()).toContain("systemctl start kubelet");
});

test("a roll back starts no kubelet without kubelet.conf, and says so; the files are back all the same", async () => {
  using node = await pretendNode({ kind: "worker" });
  for (const file of ["kubelet.conf", "pki/ca.crt"]) rmSync(`${node.root}/etc/kubernetes/${file}`);
  writeToken(node.root);
  using _api = await serve(newCa);
  const said = await node.run(join());
  expectStop(said, /^Waited 120 s for the kubelet to get its certificate/, /journalctl/);
  expect(said.stderr).toContain(
    '  unchanged kubelet, which is stopped. The kubelet cannot start: "/etc/kubernetes/pki/ca.crt" is missing, the CA that it trusts; there is no "/etc/kubernetes/kubelet.conf" and no "/etc/kubernetes/bootstrap-kubelet.conf"',
  );
  expect(node.calls().filter((call) => call === "systemctl start kubelet")).toHaveLength(1);
});

test("part 1 refuses before it stops anything where the kubelet's unit reads all flags from a file that is gone", async () => {
  using node = await pretendNode({ commands: kubespray() });
  await expectRefusal(node, "01-etcd --new-cas", NO_ENV, /^do not start/);
});

const DROP_INS = "/etc/kubernetes/kubelet.conf.d";
const LOST_DROP_INS =
  /^The kubelet cannot start: "\/etc\/kubernetes\/kubelet\.conf\.d" is missing, which --config-dir names$/;

test.each([
  ["part 1", { kind: "wiped control plane node" }, "01-etcd --new-cas"],
  ["part 2", { kind: "healthy control plane node" }, "02-control-plane"],
] as const)(
  "%s refuses before it stops anything where the kubelet's drop-in folder is gone",
  async (_, options, line) => {
    using node = await pretendNode({ ...options, commands: kubespray(KUBEADM_UNIT) });
    write(`${node.root}/etc/default/kubelet`, `KUBELET_EXTRA_ARGS="--config-dir=${DROP_INS}"\n`);
    await expectRefusal(node, line, LOST_DROP_INS, /^bring it back first/);
  },
);

test("join does the same on a worker, and minds no folder that is there", async () => {
  using node = await pretendNode({ kind: "worker", commands: kubespray(KUBEADM_UNIT) });
  write(`${node.root}/etc/default/kubelet`, `KUBELET_EXTRA_ARGS="--config-dir=${DROP_INS}"\n`);
  writeToken(node.root);
  await expectRefusal(node, join(), LOST_DROP_INS, /^bring it back first/);
  write(`${node.root}${DROP_INS}/10-hardening.conf`, "{}\n");
  using _api = await serve(newCa);
  expect((await node.run(join())).stderr).toContain("\n  started kubelet\n\n== 3.5 ");
});

test("part 2 does the same", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", commands: kubespray() });
  await expectRefusal(node, "02-control-plane", NO_ENV, /^do not start/);
});

test("a flag that the running kubelet has, and that a missing file gave it, is not lost by a restart", async () => {
  using node = await pretendNode({
    kind: "worker",
    commands: [{ command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" }],
  });
  rmSync(`${node.root}/var/lib/kubelet/kubeadm-flags.env`);
  const command = [
    "/usr/bin/kubelet",
    "--kubeconfig=/etc/kubernetes/kubelet.conf",
    "--config=/var/lib/kubelet/config.yaml",
    "--node-ip",
    "10.0.0.21",
  ];
  write(`${node.root}/proc/4711/cmdline`, `${command.join("\0")}\0`);
  writeToken(node.root);
  await expectRefusal(
    node,
    join(),
    /^The kubelet would be started without --node-ip: "\/var\/lib\/kubelet\/kubeadm-flags\.env" or "\/etc\/default\/kubelet" is missing, which its unit reads flags from$/,
    /^do not start this kubelet before the file is back/,
  );
});

/** [what, unit]: nodes that a repair may start, or of which nothing tells. */
const FIT: [what: string, unit: string][] = [
  ["kubeadm's unit without kubeadm-flags.env", KUBEADM_UNIT],
  [
    "a unit that starts a shell",
    "[Service]\nExecStart=/bin/sh -c 'exec kubelet $ARGS'\nEnvironmentFile=-/etc/gone\n",
  ],
  [
    "flags in the unit itself",
    `[Service]\nExecStart=\nExecStart=-/usr/bin/kubelet --kubeconfig /etc/kubernetes/kubelet.conf --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf\n`,
  ],
  ["a pattern of files", KUBEADM_UNIT.replace("/etc/default/kubelet", "/etc/default/kubelet*.env")],
];

test.each(FIT)("join does not mind %s", async (_, unit) => {
  using node = await pretendNode({ kind: "worker", commands: kubespray(unit) });
  rmSync(`${node.root}/var/lib/kubelet/kubeadm-flags.env`);
  writeToken(node.root);
  using _api = await serve(newCa);
  const { stderr } = await node.run(join());
  expect(stderr).toContain("\n  started kubelet\n\n== 3.5 ");
});

const RUNS: FakeCommand[] = [
  { command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" },
  {
    command: "ip -j addr",
    stdout: JSON.stringify([{ addr_info: [{ scope: "global", local: "10.0.0.21" }] }]),
  },
];

/** A worker of kubespray's without /etc/kubernetes, whose kubelet runs on. */
async function wipedWorker({ address = "10.0.0.21", config = {} } = {}) {
  const node = await pretendNode({ kind: "worker", commands: [...kubespray(), ...RUNS] });
  rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  const flags = KUBELET_ENV.replaceAll(/^#.*\n|"/gm, "").replaceAll("\n", "\0");
  write(`${node.root}/proc/4711/environ`, flags);
  const words = [...KUBELET_ENV.matchAll(/--[^\s"]+/g)].map(([word]) => word);
  write(`${node.root}/proc/4711/cmdline`, `${["/usr/local/bin/kubelet", ...words].join("\0")}\0`);
  const authentication = { x509: { clientCAFile: "/etc/kubernetes/ssl/ca.crt" } };
  const kubeletconfig = { address, authentication, maxPods: 42, ...config };
  write(`${node.root}/run/kubelet.configz`, JSON.stringify({ kubeletconfig }));
  writeToken(node.root);
  return node;
}

test("join gives a wiped kubespray worker its flags and its configuration back before it stops the kubelet", async () => {
  using node = await wipedWorker();
  using _api = await serve(newCa);
  const { stderr } = await node.run(join());
  expect(stderr).toContain("\n  started kubelet\n\n== 3.5 ");
  expect(stderr.indexOf("wrote /etc/kubernetes/kubelet.env")).toBeLessThan(stderr.indexOf("stopped kubelet"));
  expect(node.read(CONFIG)).toContain("kind: KubeletConfiguration\n");
  expect(node.read(CONFIG)).toContain("maxPods: 42\n");
  expect(node.read(ENV_FILE)).toContain("--hostname-override=w1");
  // not kubeadm's default path: the kept configuration says where
  expect(node.exists("/etc/kubernetes/pki")).toBe(false);
});

test.each<[string, Parameters<typeof wipedWorker>[0], RegExp]>([
  [
    "another node's address",
    { address: "10.0.0.22" },
    /has the address 10\.0\.0\.22, which is none of this machine$/,
  ],
  [
    "a resolver's file that is not here",
    { config: { resolvConf: "/run/nowhere/resolv.conf" } },
    /"\/run\/nowhere\/resolv\.conf" is missing, which resolvConf names$/,
  ],
])("join refuses a configuration with %s, and changes nothing", async (_, options, error) => {
  using node = await wipedWorker(options);
  await expectRefusal(node, join(), error, /^bring it back first/);
});

test("join names the ways to a lost configuration, and kubeadm's own as the last one", async () => {
  using node = await wipedWorker();
  rmSync(`${node.root}/run/kubelet.configz`);
  const hint =
    /Another node has it.*\/configz, on a control plane node, into \/run\/kubelet\.configz here\. If nobody has it: install -D -m 600 \/var\/lib\/kubelet\/config\.yaml \/etc\/kubernetes\/kubelet-config\.yaml /;
  await expectRefusal(node, join(), /kubelet-config\.yaml" is missing, which --config names$/, hint);
});

/** Somebody has started its kubelet although the file of its flags was gone: no container is left. */
async function emptiedWorker(log = "") {
  const journal = { command: "journalctl -u kubelet *", stdout: log };
  const node = await pretendNode({
    ...{ kind: "worker", containers: [] },
    commands: [journal, ...kubespray(), ...RUNS],
  });
  write(`${node.root}/proc/4711/environ`, "LANG=C\0");
  write(`${node.root}/proc/4711/cmdline`, "/usr/local/bin/kubelet\0");
  write(node.root + CONFIG, node.read("/var/lib/kubelet/config.yaml"));
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  writeToken(node.root);
  return node;
}

test("a kubelet that somebody has started without its flags: join says what it has done, and what is left", async () => {
  using node = await emptiedWorker();
  const said =
    /^The kubelet was started without --kubeconfig, and has stopped every pod of this node: "\/etc\/kubernetes\/kubelet\.env" is missing, /;
  await expectRefusal(
    node,
    join(),
    said,
    /^stop it: systemctl stop kubelet\. Images, volumes and .* are left: /,
  );
});

test("where its journal still has the flags, join gives it these and starts it anew", async () => {
  using node = await emptiedWorker(kubeletsJournal(KUBELET_ENV));
  using _api = await serve(newCa);
  const { stderr } = await node.run(join());
  expect(stderr).toContain("wrote /etc/kubernetes/kubelet.env (the kubelet's flags, from its journal, ");
  expect(stderr).toContain("\n  started kubelet\n\n== 3.5 ");
  expect(node.read(ENV_FILE)).toContain("--hostname-override=w1");
});
