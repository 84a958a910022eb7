/**
 * A marker is in each leaf of manifests, Nodes and a kubelet's flags that may hold a secret; no script shows
 * one: not on stdout and stderr, in transcripts, JSON, metrics, pages and bundles.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import type { Manifest } from "../../shared/objects/objects.ts";
import { ADDRESS, manifest, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { afterPart1, servePart2 } from "../pretend/in-part2.ts";
import { joinToItsEnd, newCa, serve, writeToken } from "../pretend/joining.ts";
import { keptOn } from "../pretend/kept.ts";
import { M2, mirrorPodOfM2, withM2 } from "../pretend/lost-cp.ts";
import { MARKED, markFiles, markObjects, markPod } from "../pretend/marked.ts";
import { CRICTL, crictlPs, type pretendNode, staticUid } from "../pretend/node.ts";
import { knewCa, LEASES, lease, serveRunning } from "../pretend/running.ts";
import { serveStale } from "../pretend/stale.ts";
import { here, nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
type Node = Awaited<ReturnType<typeof pretendNode>>;

/** Files that scripts write where they are asked to. */
const OUTPUTS = ["plan.html", "metrics.prom", "report.html", "case.tar"];

/**
 * Runs these one after the other, and holds all that is to be seen against the markers. What they say: for
 * what must be said.
 */
async function shows(node: Node, lines: readonly string[]): Promise<string> {
  const said: [from: string, text: string][] = [];
  for (const line of lines) {
    const { stdout, stderr, exitCode } = await node.run(line);
    said.push([line, `${stdout}\n${stderr}\nexit ${exitCode}`]);
  }
  for (const { run, text, record } of keptOn(node.root))
    said.push([`the transcript of ${run}`, text + JSON.stringify(record)]);
  for (const name of OUTPUTS) if (node.exists(`/root/${name}`)) said.push([name, node.read(`/root/${name}`)]);
  const shown = said.flatMap(([from, text]) =>
    [...new Set(text.match(MARKED))].map((mark) => `${from}: ${mark}`),
  );
  expect(shown).toEqual([]);
  return said.map(([, text]) => text).join("\n");
}

const VERIFY = [
  "05-verify --all",
  "05-verify --json --metrics metrics.prom",
  "report report.html --bundle case.tar",
];
const LOOK = ["00-assess", "00-assess --json", "00-assess --deep", "plan", "plan plan.html", "drill"];

test("a node that is well, whose manifests differ from their mirror pods: assessment, plan, drill, proof", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", etcd: markObjects });
  markFiles(node.root);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  const said = await shows(node, [
    ...LOOK,
    "00-salvage --dry-run",
    "01-etcd --dry-run",
    "02-control-plane",
    ...VERIFY,
  ]);
  expect(said).toMatch(/env\[PASSWORD\]\.value=\(hidden, \w{8}\)/);
});

test("a wiped node, through parts 0 to 2", async () => {
  using node = here(await afterPart1({ etcd: markObjects }));
  using _etcd = node.etcd;
  markFiles(node.root, { manifests: false });
  await shows(node, [...LOOK, "00-salvage", "00-token-key", "01-etcd"]);
  const part2 = node.run("02-control-plane", WAITS);
  await node.written("/etc/kubernetes/manifests/kube-apiserver.yaml");
  using _api = servePart2(node);
  const { stdout, stderr } = await part2;
  expect((stdout + stderr).match(MARKED)).toBeNull();
  await shows(node, VERIFY);
});

test("containers that ran with other words than their mirror pods have", async () => {
  const words = (of: string) => [
    `--cloud-password=hush-${of}-password`,
    `--kms-key-id=hush-${of}-kms`,
    `--oidc-client-secret=hush-${of}-secret`,
    "--bearer-token",
    `hush-${of}-word`,
  ];
  const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager"];
  const etcd = (objects: Objects) => {
    markObjects(objects);
    for (const name of SERVERS) {
      const pod = objects[`pods/kube-system/${name}-m1`] as Manifest;
      pod.metadata.annotations!["kubernetes.io/config.hash"] = staticUid(name);
      pod.spec.containers[0]!.command!.push(...words(`mirror-${name}`));
    }
  };
  const inspected = (name: string) => {
    const { image, command = [] } = manifest(name).spec.containers[0]!;
    const process = { args: [...command, ...words(`ran-${name}`)], env: [], user: { uid: 0 } };
    const config = { image: { user_specified_image: image } };
    const inspect = { status: {}, info: { config, runtimeSpec: { process, linux: { resources: {} } } } };
    return { command: `${CRICTL} inspect -o json ${name}-id`, stdout: JSON.stringify(inspect) };
  };
  const ps = { command: `${CRICTL} ps -a -o json`, stdout: crictlPs([...SERVERS, "kube-proxy"]) };
  using node = here(await afterPart1({ etcd, commands: [ps, ...SERVERS.map(inspected)] }));
  using _etcd = node.etcd;
  const said = await shows(node, [...LOOK, "02-control-plane --dry-run", ...VERIFY]);
  expect(said).toMatch(/command as its container ran it: \+--cloud-password=\(hidden, \w{8}\)/);
});

test("manifests of an attempt that differ from what ran, put back by parts 1 and 2", async () => {
  using node = await nodeHere({ etcd: markObjects });
  markFiles(node.root);
  for (const name of ["etcd", "kube-apiserver", "kube-scheduler", "kube-vip"])
    utimesSync(`${node.root}/etc/kubernetes/manifests/${name}.yaml`, new Date(0), new Date(0));
  const started = node
    .called("systemctl restart kubelet")
    .then(() => serveEtcd(node.root, sameEtcd(node.stored)));
  const part1 = await node.run("01-etcd --new-cas", WAITS);
  using _etcd = await started;
  const { exitCode, stderr } = part1;
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("differs from the manifest before the repair"),
  });
  expect(stderr.match(MARKED)).toBeNull();
  await shows(node, ["02-control-plane --dry-run"]);
});

/**
 * Labels and taints are shown: the lines that put them back are for a person to paste, and no program reads
 * its secrets there.
 */
test("a control plane node that is lost, and has joined again as another one", async () => {
  const etcd = (objects: Objects) => {
    withM2(objects);
    markObjects(objects);
  };
  using node = await nodeHere({ kind: "healthy control plane node", members: THREE, etcd });
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  const pods = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"].map((name) => [
    `/api/v1/namespaces/kube-system/pods/${name}-m2`,
    markPod(mirrorPodOfM2(name), "now"),
  ]);
  const now = { ...M2, metadata: { ...M2.metadata, uid: "uid-of-the-new-m2", annotations: {} } };
  const objects = { "/api/v1/nodes/m2": now, [`${LEASES}/m2`]: lease(0), ...Object.fromEntries(pods) };
  using _api = serveRunning(node, { objects });
  const said = await shows(node, ["02-control-plane --lost m2", ...VERIFY]);
  expect(said).toContain("m2, which has joined again: kube-apiserver: !CHANGED!: +");
  expect(said).toContain("patch --type merge --patch-file /root/kube-pki-repair-");
});

test("a worker, and the flags of its kubelet", async () => {
  using node = await nodeHere({ kind: "worker" });
  markFiles(node.root, { manifests: false });
  write(
    `${node.root}/etc/kubernetes/manifests/balancer.yaml`,
    JSON.stringify(markPod(manifest("kube-vip"), "worker")),
  );
  await shows(node, ["00-assess", "00-assess --json", "05-verify --all --metrics metrics.prom"]);
  writeToken(node.root);
  using api = await serve(newCa);
  const { exitCode, stderr } = await joinToItsEnd(node, api);
  expect({ exitCode, hushed: stderr.match(MARKED) }).toEqual({ exitCode: 0, hushed: null });
  await shows(node, ["05-verify --all"]);
});

test("a kubelet whose flags are saved before its machine joins again, twice with other flags", async () => {
  using node = await nodeHere();
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  markFiles(node.root, { manifests: false });
  const line = `join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4`;
  const said = await shows(node, [line, `${line} --dry-run`]);
  expect(said).toMatch(
    /these flags of yours: --node-labels=\(hidden, \w{8}\) --cloud-secret=\(hidden, \w{8}\)\n/,
  );
  write(
    `${node.root}/var/lib/kubelet/kubeadm-flags.env`,
    'KUBELET_KUBEADM_ARGS="--cloud-secret=hush-another --v=4"\n',
    0o644,
  );
  expect(await shows(node, [line])).toContain("the previous save has another kubeadm-flags.env");
});

test("parts 3 and 4 on a control plane node with a new CA", async () => {
  const before = await otherCa();
  const etcd = (objects: Objects) => {
    knewCa(before.cert)(objects);
    markObjects(objects);
  };
  using node = await nodeHere({ kind: "healthy control plane node", etcd });
  markFiles(node.root);
  using _api = serveStale(node, before.cert);
  await shows(node, ["03-workers open --token-file token", "03-workers close", "04-sa-tokens", ...VERIFY]);
});
