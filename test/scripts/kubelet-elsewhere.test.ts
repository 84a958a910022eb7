/** Kubelets with folders, files and flags of their own: what they really use is found, and repaired there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readlinkSync, renameSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** Its flags are in a file of its own name. */
const UNIT = `[Service]
EnvironmentFile=/opt/kubelet/flags
ExecStart=/usr/bin/kubelet $ALL
`;

const FLAGS =
  "--kubeconfig=/opt/kubelet/kubelet.conf --bootstrap_kubeconfig=/opt/kubelet/bootstrap.conf --config=/var/lib/kubelet/config.yaml " +
  "--config-dir=/opt/kubelet/conf.d --root-dir=/data/kubelet --cert-dir=/data/kubelet/pki";

/** All of a kubelet's in other places; `process`: its flags as they run, the unit is a shell's. */
async function nodeElsewhere({ process }: { process?: string } = {}) {
  const commands: FakeCommand[] = [
    {
      command: "systemctl cat kubelet",
      stdout: process ? "[Service]\nExecStart=/bin/sh /opt/start-kubelet\n" : UNIT,
    },
    { command: "systemctl show -p MainPID --value kubelet", stdout: process ? "4711\n" : "0\n" },
  ];
  const node = await pretendNode({ commands });
  for (const folder of ["opt", "data/kubelet"]) mkdirSync(`${node.root}/${folder}`, { recursive: true });
  renameSync(`${node.root}/var/lib/kubelet/pki`, `${node.root}/data/kubelet/pki`);
  write(`${node.root}/opt/kubelet/flags`, `ALL="${FLAGS}"\n`);
  write(`${node.root}/opt/kubelet/conf.d/20-site.conf`, "staticPodPath: /opt/kubelet/pods\n");
  if (process)
    write(`${node.root}/proc/4711/cmdline`, `/usr/bin/kubelet\0${process.replaceAll(" ", "\0")}\0`);
  return node;
}

test("part 1 repairs a kubelet where its unit says that it looks", async () => {
  using node = await nodeElsewhere();
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "copied /data/kubelet/pki to /root/kube-pki-repair-TIME/before/data/kubelet/pki\n",
  );
  expect(node.read("/opt/kubelet/kubelet.conf")).toContain(
    "client-certificate: /data/kubelet/pki/kubelet-client-current.pem\n",
  );
  expect(readlinkSync(`${node.root}/data/kubelet/pki/kubelet-client-current.pem`)).toStartWith(
    "/data/kubelet/pki/kubelet-client-20",
  );
  expect(node.read("/opt/kubelet/pods/etcd.yaml")).toContain("--data-dir=/var/lib/etcd");
  for (const path of ["/etc/kubernetes/manifests", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki"])
    expect(node.exists(path)).toBe(false);
});

test("a running kubelet says what no file tells: its unit starts a shell", async () => {
  using node = await nodeElsewhere({ process: FLAGS });
  const { stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect(stderr).toContain("would write /opt/kubelet/pods/etcd.yaml ");
  expect(stderr).toContain("would write /opt/kubelet/kubelet.conf\n");
});

const LOST = UNIT.replace("$ALL", FLAGS.replace("/opt/kubelet/conf.d", "/etc/kubernetes/kubelet.conf.d"));
test("a drop-in folder that the accident deleted is named before anything is touched, with the line that asks the journal", async () => {
  using node = await pretendNode({
    commands: [{ command: "systemctl cat kubelet", stdout: LOST }],
  });
  write(`${node.root}/opt/kubelet/flags`, "");
  await expectRefusal(
    node,
    "01-etcd --new-cas",
    /^The kubelet cannot start: "\/etc\/kubernetes\/kubelet\.conf\.d" is missing, which --config-dir names$/,
    /mkdir -p \/etc\/kubernetes\/kubelet\.conf\.d, .* staticPodPath and .*: journalctl -u kubelet .* \| sort -u; /,
  );
  const { stdout } = await node.run("00-assess");
  expect(stdout).toMatch(/\/?kubelet\.conf\.d +!\w+! +.*--config-dir/);
});
