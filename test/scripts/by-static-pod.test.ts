/**
 * A process or container is one by its static pod, never by its name: what the scripts stop, what they
 * continue, and every line that an operator types. On these nodes others have the same names: Calico's
 * kube-controllers, Cilium's etcd, a tenant's whole control plane.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HOLD } from "../../shared/facts/course.ts";
import { CONTROL_PLANE } from "../../shared/node/containers.ts";
import { signalLine } from "../../shared/shell-line.ts";
import { ADDRESS, healthyCp } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import {
  DELEGATED,
  POD_UID,
  type PretendProcess,
  podRecord,
  pretendProcess,
  STATIC_UID,
} from "../pretend/memory.ts";
import { CRICTL, crictlPs, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { sandbox } from "../pretend/sandbox.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const home = join(import.meta.dir, "../..");
const read = (path: string) => Bun.file(join(home, path)).text();
const ID = "c".repeat(64);

/**
 * Where a container's process is, by the runtime, its cgroup driver and the kernel's cgroups. Source: kubelet
 * pkg/kubelet/cm, containerd, CRI-O.
 */
const CGROUPS = (uid: string, slice = uid.replaceAll("-", "_")) => ({
  "containerd, systemd, v2": `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${slice}.slice/cri-containerd-${ID}.scope\n`,
  "containerd, cgroupfs, v2": `0::/kubepods/burstable/pod${uid}/${ID}\n`,
  "containerd, v1": `12:cpu,cpuacct:/kubepods/burstable/pod${uid}/${ID}\n1:name=systemd:/kubepods/burstable/pod${uid}/${ID}\n`,
  "guaranteed, systemd": `0::/kubepods.slice/kubepods-pod${slice}.slice/cri-containerd-${ID}.scope\n`,
  "CRI-O": `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${slice}.slice/crio-${ID}.scope/container\n`,
  "cri-dockerd": `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${slice}.slice/docker-${ID}.scope\n`,
  "below a folder of --cgroup-root": `0::/unit/kubepods/burstable/pod${uid}/${ID}\n`,
  "a node in a container": `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod${slice}.slice/cri-containerd-${ID}.scope\n`,
});

/**
 * Types a line on a node without crictl, on which these processes run: PID → name and cgroup. Returns which
 * got which signal.
 */
function typed(line: string, processes: Record<string, { comm: string; cgroup: string }>) {
  using box = sandbox();
  for (const [pid, { comm, cgroup }] of Object.entries(processes)) {
    mkdirSync(`${box.dir}/proc/${pid}`, { recursive: true });
    writeFileSync(`${box.dir}/proc/${pid}/comm`, `${comm}\n`);
    writeFileSync(`${box.dir}/proc/${pid}/cgroup`, cgroup);
  }
  const machine = `
    pgrep() { for c in ${box.dir}/proc/*/comm; do command grep -qxE "$2" $c && basename $(dirname $c); done; }
    pkill() { for p in $(pgrep -x "$3"); do kill "$1" $p; done; }
    grep() { command grep "$1" "$2" "${box.dir}$3"; }
    kill() { echo "$@" >> ${box.dir}/signals; }
    crictl() { return 127; }
    systemctl() { :; }
  `;
  const shell = Bun.spawnSync(["bash", "-e", "-c", `${machine}\n${line}`]);
  const sent = `${box.dir}/signals`;
  const signals = existsSync(sent) ? readFileSync(sent, "utf8").trim().split("\n") : [];
  return { exitCode: shell.exitCode, stderr: shell.stderr.toString(), signals };
}

const [OWN, TENANTS] = [CGROUPS(STATIC_UID), CGROUPS(POD_UID)];
const KINDS = Object.keys(OWN) as (keyof typeof OWN)[];

test.each(KINDS)(
  "part 0's line pauses the static pod's controller-manager, and nobody else's: %s",
  (kind) => {
    const others = {
      20: { comm: "kube-controller", cgroup: TENANTS[kind] },
      21: { comm: "kube-controller", cgroup: "0::/user.slice/a.scope\n" },
      // a user names folders below his own; a colon and a line of version 1 are no way out
      22: { comm: "kube-controller", cgroup: `0::${DELEGATED}/kubepods/pod${STATIC_UID}/x\n` },
      23: { comm: "kube-controller", cgroup: `0::${DELEGATED}/0::/kubepods/pod${STATIC_UID}/x\n` },
      24: {
        comm: "kube-controller",
        cgroup: `4:pids:/user.slice\n1:name=systemd:${DELEGATED}/pod${STATIC_UID}/x\n0::${DELEGATED}\n`,
      },
    };
    const line = HOLD.at(-1)!.command;
    expect(typed(line, { 7: { comm: "kube-controller", cgroup: OWN[kind] }, ...others })).toEqual({
      exitCode: 0,
      stderr: "",
      signals: ["-STOP 7"],
    });
    expect(typed(line, others)).toEqual({ exitCode: 0, stderr: "", signals: [] });
  },
);

test("the line of older kits pauses all of them: `typed` sees it", () => {
  const processes = Object.fromEntries(
    KINDS.map((kind, i) => [`${i + 1}`, { comm: "kube-controller", cgroup: TENANTS[kind] }]),
  );
  expect(typed("pkill -STOP -x kube-controller || true", processes).signals).toHaveLength(KINDS.length);
});

test("no page and no program has a line that takes a process or a container by its name alone", async () => {
  const paths = [
    ...new Bun.Glob("{README.md,RUNBOOK.md,RUNBOOK-MORE.md,{scripts,shared}/**/*.{ts,yaml}}").scanSync(home),
  ];
  const texts = await Promise.all(paths.map(async (path) => [path, await read(path)] as const));
  const byName = texts.flatMap(([path, text]) =>
    [...text.matchAll(/pkill -|killall |pidof |crictl (?:ps|pods) -q(?![^\n]*--label)[^\n]*/g)].map(
      ([words]) => `${path}: ${words}`,
    ),
  );
  expect(byName).toEqual([]);
  expect(await read("RUNBOOK.md")).toContain(`\n${HOLD.at(-1)!.command}\n`);
  expect(await read("RUNBOOK.md")).toContain(
    `**Undo.** \`${signalLine("CONT", ["kube-controller-manager"])}\``,
  );
});

const CALICO_ID = "b".repeat(64);

/** What others have on this node, by the names of the control plane. */
const OTHERS = [
  { name: "etcd", id: "cilium", pod: "clustermesh-apiserver-5d8f7c9b6-x2x4z", podUid: POD_UID },
  { name: "etcd", id: "a-backup", pod: "etcd-m1", podUid: POD_UID },
  ...CONTROL_PLANE.map((name) => ({
    name,
    id: `tenants-${name}`,
    pod: `${name}-0`,
    namespace: "a-team",
    podUid: POD_UID,
  })),
  { name: "calico-kube-controllers", id: CALICO_ID, pod: "calico-kube-controllers-0", podUid: POD_UID },
];
const PS = { command: `${CRICTL} ps -a -o json`, stdout: crictlPs([...CONTROL_PLANE, "kube-proxy"], OTHERS) };
const CALICO = {
  pid: 20,
  comm: "kube-controller",
  state: "T",
  cgroup: `/kubepods/burstable/pod${POD_UID}/${CALICO_ID}`,
};
const POSTGRES_UID = POD_UID.replace(/^./, "9");
const POSTGRES = {
  ...CALICO,
  pid: 22,
  comm: "postgres",
  cgroup: `/kubepods/burstable/pod${POSTGRES_UID}/${"d".repeat(64)}`,
};
const OWN_MANAGER = { pid: 31, comm: "kube-controller", state: "T" };
const KILL = { command: "kill *" };

async function nodeOf(processes: readonly PretendProcess[], options: NodeOptions = {}) {
  const node = await pretendNode({ commands: [PS, KILL], ...options });
  for (const one of processes) pretendProcess(node.root, one);
  podRecord(node.root, "a-team", "db-0", POSTGRES_UID);
  return node;
}

test("part 1 ends the containers of this node's static pods alone, and continues what the line of an older kit has paused", async () => {
  using node = await nodeOf([CALICO, POSTGRES, OWN_MANAGER]);
  const part1 = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await part1;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const ended = node.calls().flatMap((call) => / stop --timeout 0 (\S+)$/.exec(call)?.[1] ?? []);
  expect([...new Set(ended)].sort()).toEqual(CONTROL_PLANE.map((name) => `${name}-id`).sort());
  expect(node.calls().filter((call) => call.startsWith("kill"))).toEqual(["kill -CONT 20"]);
  expect(stderr).toContain(
    "  continued kube-controller (pid 20) of the container calico-kube-controllers of kube-system/calico-kube-controllers-0; ",
  );
  expect(stderr).toContain(
    "  postgres (pid 22) of a-team/db-0 is stopped, and not by this kit. To continue it: kill -CONT 22\n",
  );
});

test("part 2 continues them, too, and ends a paused controller-manager also where nothing else has to restart", async () => {
  using node = await nodeOf([CALICO, OWN_MANAGER], { kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { stderr } = await node.run("02-control-plane --dry-run");
  expect(stderr).toContain(
    "  would continue kube-controller (pid 20) of the container calico-kube-controllers of ",
  );
  expect(stderr).toContain("  would stop kube-controller-manager\n");
});

test("another etcd in kube-system makes no machine a living control plane node", async () => {
  using node = await nodeOf([], { commands: [{ ...PS, stdout: crictlPs(["kube-proxy"], OTHERS) }] });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  const { exitCode, stderr } = await node.run(`join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
});

test("00-assess and 05-verify name a stopped process of kube-system with the line that continues it; on a well node it comes first", async () => {
  using node = await nodeOf([CALICO, { ...CALICO, pid: 21, terminal: 34816 }], {
    kind: "healthy control plane node",
  });
  const { exitCode, stdout } = await node.run("00-assess --json");
  const { next, verdict, damage } = JSON.parse(stdout);
  const row = damage.filter(({ id }: { id: string }) => id === "stopped-process");
  expect({ exitCode, next, verdict, row }).toEqual({
    exitCode: 2,
    next: [expect.stringMatching(/^kill -CONT 20 +# /), expect.stringContaining("05-verify.ts")],
    verdict: "a signal has stopped what must run: kube-controller (pid 20)",
    row: [
      {
        id: "stopped-process",
        what: "kube-controller (pid 20)",
        state: "!STOPPED!",
        detail:
          "of the container calico-kube-controllers of kube-system/calico-kube-controllers-0, stopped by a signal: kill -CONT 20",
      },
    ],
  });
  const verified = await node.run("05-verify --output short");
  expect(verified.stdout).toMatch(
    /^ {2}failed +node: processes of pods: stopped by a signal: kube-controller \(pid 20\) of .*: kill -CONT 20$/m,
  );
});

test("what part 0 has paused is listed with its undo, and is no damage; on a node whose kubelet runs it is", async () => {
  using node = await nodeOf([OWN_MANAGER, POSTGRES], { kind: "healthy control plane node" });
  const row = async () => {
    const { stdout } = await node.run("00-assess --json");
    return JSON.parse(stdout).damage.filter(({ id }: { id: string }) => id === "stopped-process");
  };
  expect(await row()).toMatchObject([
    { what: "postgres (pid 22)", state: "known" },
    { what: "kube-controller-manager (pid 31)", state: "!STOPPED!" },
  ]);
  writeFileSync(`${node.env.FAKE}/stopped`, "");
  const detail = "paused, as part 0 does: part 1 or 2 ends it. Undo: kill -CONT 31";
  expect(await row()).toMatchObject([
    {},
    { what: "kube-controller-manager (pid 31)", state: "known", detail },
  ]);
});

test("a tenant's servers are no place where lost keys may be", async () => {
  using node = await nodeOf([], { commands: [{ ...PS, stdout: crictlPs(["kube-proxy"], OTHERS) }] });
  const { stdout } = await node.run("00-assess --json");
  expect(
    JSON.parse(stdout).survivors.find(({ where }: { where: string }) => where === "memory"),
  ).toMatchObject({ hope: "no" });
});

test("a plan has a tick where part 0 was seen to be done, and says when and where", async () => {
  using node = await nodeOf([OWN_MANAGER], { kind: "healthy control plane node" });
  rmSync(`${node.root}/etc/kubernetes/pki/sa.key`);
  const step = async () =>
    /^### (\[.\]) 0a: [\s\S]*?```\n(.*)$/m.exec((await node.run("plan")).stdout)?.slice(1);
  expect(await step()).toEqual(["[ ]", expect.stringMatching(/^These lines print nothing\. Costs: /)]);
  writeFileSync(`${node.env.FAKE}/stopped`, "");
  const seen =
    /^Seen at \d\d:\d\d UTC on m1: the kubelet is stopped, kube-controller-manager \(pid 31\) is paused\. These lines .* Costs: /;
  expect(await step()).toEqual(["[x]", expect.stringMatching(seen)]);
  await node.run(`plan ${node.root}/plan.html`);
  expect(node.read(`${node.root}/plan.html`)).toMatch(/data-step="0a" autocomplete="off" checked>/);
});
