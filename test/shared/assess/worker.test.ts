/** A worker of kubespray's that has lost /etc/kubernetes: each line that 00-assess prints there is true, and is for a worker. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { assess } from "../../../shared/assess/assess.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { printAssessment } from "../../../shared/assess/printed.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { KUBELET_ENV, KUBESPRAY_KUBELET, kubeletsJournal } from "../../pretend/etcd-as-unit.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";
import { POD_UID, podRecord } from "../../pretend/memory.ts";
import type { NodeOptions } from "../../pretend/node.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const WORDS = [...KUBELET_ENV.matchAll(/--[^\s"]+/g)].map(([word]) => word);

const RENAMED = { command: "uname -n", stdout: "ip-10-0-0-21\n" };
const RUNS = { command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" };
const STOPPED = ["is-active --quiet kubelet", "is-active kubelet"].map((words) => ({
  ...{ command: `systemctl ${words}`, does: "echo inactive; exit 3" },
}));

interface Where extends NodeOptions {
  change?: (node: PretendNode) => unknown;
}

/** What is printed there, each line with one space between its cells. */
async function printed({ change, commands = [], ...options }: Where = {}) {
  const on: Where = {
    ...{ kind: "worker", ...options },
    commands: [...commands, RENAMED, { command: "systemctl cat kubelet", stdout: KUBESPRAY_KUBELET }],
    async change(node) {
      rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
      await change?.(node);
    },
  };
  return await lookAt(on, async (_, said) => {
    const assessment = await assess(await lookHere(undefined));
    const from = said.length;
    printAssessment(assessment);
    const lines = said.slice(from).flatMap((text) => text.split("\n"));
    return lines.map((line) => line.trim().replaceAll(/ +/g, " ")).join("\n");
  });
}

const flagsText = KUBELET_ENV.replaceAll(/^#.*\n|"/gm, "");
const keptFlags = ({ root }: PretendNode) => write(`${root}/run/kubelet.environ`, flagsText);
const runningKubelet = ({ root }: PretendNode) => {
  write(`${root}/proc/4711/environ`, flagsText.replaceAll("\n", "\0"));
  write(`${root}/proc/4711/cmdline`, `${["/usr/local/bin/kubelet", ...WORDS].join("\0")}\0`);
};

const OTHER_NAME = "asks for another Node";

test.each<[string, Where]>([
  ["were kept before it was stopped", { commands: STOPPED, change: keptFlags }],
  [
    "are in its journal",
    { commands: [...STOPPED, { command: "journalctl -u kubelet *", stdout: kubeletsJournal(KUBELET_ENV) }] },
  ],
  ["are those of its process", { commands: [RUNS], change: runningKubelet }],
  ["nobody has: the file itself has to come back", { commands: STOPPED }],
])("its name is judged by the flags that come back: they %s", async (_, where) => {
  const text = await printed(where);
  expect(text).toContain("the kubelet's start !UNSAFE!");
  expect(text).not.toContain(OTHER_NAME);
  expect(text).not.toContain("scripts/move.ts");
});

test("flags that come back without a name leave the host's, and that is another one", async () => {
  const withoutName = flagsText.replace("--hostname-override=w1", "");
  const change = ({ root }: PretendNode) => write(`${root}/run/kubelet.environ`, withoutName);
  expect(await printed({ commands: STOPPED, change })).toContain(OTHER_NAME);
});

test("containers that run on until the kubelet starts are no outage now; they are if it has started without its flags", async () => {
  expect(await printed({ commands: STOPPED, change: keptFlags })).toContain(
    "\noutage later, by the kubelet's start. Still works: this node's containers run on; all of them stop if its kubelet starts without its file\n",
  );
  const change = ({ root }: PretendNode) => {
    write(`${root}/proc/4711/environ`, "LANG=C\0");
    write(`${root}/proc/4711/cmdline`, "/usr/local/bin/kubelet\0");
  };
  expect(await printed({ commands: [RUNS], containers: [], change })).toContain(
    "\noutage now, by the kubelet's start. Still works: nothing on this node\n",
  );
});

test("what is missing does not expire", async () => {
  const text = await printed({ commands: STOPPED, change: keptFlags });
  expect(text).toContain("\noutage later, by ca.crt. Still works: the kubelet, until it restarts\n");
  expect(text).not.toContain("expires soon");
});

test("kubeadm's own configuration of the kubelet is the last way, on a worker, too", async () => {
  const text = await printed({ commands: STOPPED, change: keptFlags });
  const last =
    "\ninstall -D -m 600 /var/lib/kubelet/config.yaml /etc/kubernetes/kubelet-config.yaml # if nobody has it. kubeadm's: ";
  expect(text.indexOf("\nscp -rp root@NODE:/etc/kubernetes/kubelet-config.yaml")).toBeGreaterThan(0);
  expect(text.indexOf(last)).toBeGreaterThan(text.indexOf("\nscp -rp root@NODE:"));
});

test("no line of control plane nodes is printed for what has no trace of one", async () => {
  const text = await printed({ commands: STOPPED, change: keptFlags });
  expect(text).not.toContain("02-control-plane.ts");
  expect(text).toContain('\nif w1 is among them, do not join it: RUNBOOK-MORE "If a member has no data"');
});

/** As a pod of kube-system has it, for each of its containers. */
function mountCa(root: string, pem: string) {
  podRecord(root, "kube-system", "kube-proxy-1", POD_UID);
  const volume = `/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access-1`;
  write(`${root}${volume}/ca.crt`, pem);
}

test.each([
  ["has just joined, and its pods have that CA, asks for no other one", "20260101T000000", false],
  ["has no record of a join may have to join", undefined, true],
])("a worker that %s", async (_, made, asks) => {
  const change = ({ root }: PretendNode) => {
    mountCa(root, readFileSync(`${root}/etc/kubernetes/pki/ca.crt`, "utf8"));
    if (made) mkdirSync(`${root}/root/kube-pki-repair-${made}`, { mode: 0o700 });
  };
  const { ca, verdict } = await lookAt({ kind: "worker", change }, async () =>
    assess(await lookHere(undefined)),
  );
  expect(ca.copies.map(({ is }) => is)).toEqual(["the cluster's", "the cluster's"]);
  expect(verdict.includes("join again nevertheless")).toBe(asks);
});

test("on a worker whose pods have another CA than its kubelet each of the kubelet's files has one row that says so", async () => {
  const { root: healthy } = await healthyCp();
  const change = ({ root }: PretendNode) =>
    mountCa(root, readFileSync(`${healthy}/etc/kubernetes/pki/front-proxy-ca.crt`, "utf8"));
  const { damage } = await lookAt({ kind: "worker", change }, async () => assess(await lookHere(undefined)));
  expect(damage.flatMap(({ what, state }) => (state === "other CA" ? [what] : []))).toEqual([
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/kubelet.conf",
  ]);
});
