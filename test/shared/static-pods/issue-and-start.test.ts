/**
 * A repair under a new CA leaves its mark: a certificate of etcd that is younger than the copy of its data. And
 * whether an etcd that runs can stay, where admission has changed its mirror pod. And part 2 looks at its work once.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, lstatSync, readlinkSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { keepContainerRecords } from "../../../shared/facts/control-plane-node.ts";
import type { ControlPlaneNode } from "../../../shared/facts/node-facts.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { copyLargeTree } from "../../../shared/files/file-tree.ts";
import { newRescue, rescuedEtcd } from "../../../shared/node/rescue-folder.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import {
  issueEtcdCertificates,
  issueForServers,
  linkUsualDir,
  lookAtServers,
  startServers,
} from "../../../shared/static-pods/issue-and-start.ts";
import { etcdIsInPlace, etcdWork } from "../../../shared/static-pods/work.ts";
import { FACTS, manifest, mirrorPod, type Objects, otherCa, write } from "../../pretend/cluster.ts";
import { commandsOf, external, KUBESPRAY_KUBELET, layOut, UNIT_MEMBER } from "../../pretend/etcd-as-unit.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { CRICTL, crictlPs, staticUid } from "../../pretend/node.ts";
import type { FakeCommand } from "../../pretend/programs.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const younger = await otherCa();
const MONTH_AGO = new Date(Date.now() - 30 * 86_400_000);
const SERVER = "/etc/kubernetes/pki/etcd/server";

interface Begun {
  /** The CA in its place is none that the cluster knew. */
  newCa?: true;
  /** Part 1 has copied etcd's data. */
  copied?: true;
}

/** Whether etcd's own certificate, and its key, are made anew: at first, and when the same is done again. */
async function issuedAnew({ newCa, copied }: Begun) {
  const seen: string[][] = [];
  await lookAt({ kind: "healthy control plane node" }, async ({ root, read }) => {
    const pki = `${root}/etc/kubernetes/pki`;
    const ca = {
      cert: read("/etc/kubernetes/pki/etcd/ca.crt"),
      key: read("/etc/kubernetes/pki/etcd/ca.key"),
    };
    const server = await issueLeaf(certRow("etcd-server"), ca, FACTS, { now: MONTH_AGO });
    write(`${root}${SERVER}.crt`, server.cert, 0o644);
    write(`${root}${SERVER}.key`, server.key);
    if (newCa) {
      write(`${pki}/ca.crt`, younger.cert, 0o644);
      write(`${pki}/ca.key`, younger.key);
    }
    if (copied) await copyLargeTree("/var/lib/etcd", rescuedEtcd(newRescue()));
    seen.push([server.cert, server.key]);
    for (let run = 1; run <= 2; run++) {
      await issueEtcdCertificates(await controlPlaneToRepair(undefined));
      seen.push([read(`${SERVER}.crt`), read(`${SERVER}.key`)]);
    }
  });
  const differs = (run: number) => [0, 1].map((file) => seen[run]![file] !== seen[run - 1]![file]);
  return { first: differs(1), again: differs(2) };
}

const KEPT = [false, false];
const ANEW = [true, true];

test.each<[string, Begun, boolean[]]>([
  ["is kept under the cluster's CA", {}, KEPT],
  ["is kept under the cluster's CA, also where etcd's data was copied", { copied: true }, KEPT],
  ["is kept under a new CA before etcd's data was copied", { newCa: true }, KEPT],
  [
    "is made anew, once, under a new CA and beside the copy of etcd's data",
    { newCa: true, copied: true },
    ANEW,
  ],
])("a sound certificate of etcd %s", async (_, begun, first) => {
  expect(await issuedAnew(begun)).toEqual({ first, again: KEPT });
});

const [image, sidecar] = ["registry.k8s.io", { name: "sidecar", image: "agent:1" }];

/** Its mirror pod has another registry; its file has a sidecar. */
const admitted = (objects: Objects) => {
  const pod = mirrorPod("etcd");
  pod.metadata.annotations!["kubernetes.io/config.hash"] = staticUid("etcd");
  pod.spec.containers[0]!.image = pod.spec.containers[0]!.image!.replace(image, "registry.corp");
  pod.spec.containers.push(sidecar);
  objects["pods/kube-system/etcd-m1"] = pod;
};

const PS = `${CRICTL} ps -a -o json`;
const RUNS: FakeCommand = {
  command: PS,
  stdout: crictlPs(["etcd"], [{ name: "sidecar", pod: "etcd-m1", podUid: staticUid("etcd") }]),
};
const LATE = { stderr: "rpc error: code = DeadlineExceeded desc = context deadline exceeded", exit: 1 };
const inspected = (name: string, image: string, more: Partial<FakeCommand> = {}): FakeCommand => ({
  command: `${CRICTL} inspect -o json ${name}-id`,
  stdout: JSON.stringify({ info: { config: { image: { user_specified_image: image } } } }),
  ...more,
});
const ETCD = inspected("etcd", manifest("etcd").spec.containers[0]!.image!);
const SIDECAR = inspected("sidecar", sidecar.image);

const isInPlace = (cp: ControlPlaneNode) => etcdIsInPlace(cp, etcdWork(cp, []));

/** What the runtime says; `then`: what is done before it is looked at again. Whether etcd can stay. */
async function inPlace(commands: FakeCommand[], then?: (cp: ControlPlaneNode) => Promise<void>) {
  const change = ({ root }: { root: string }) => {
    const own = manifest("etcd");
    own.spec.containers.push(sidecar);
    write(`${root}/etc/kubernetes/manifests/etcd.yaml`, JSON.stringify(own));
    const before = new Date(Date.now() - 3600_000);
    utimesSync(`${root}/etc/kubernetes/manifests/etcd.yaml`, before, before);
  };
  const options = { kind: "healthy control plane node", etcd: admitted, commands, change } as const;
  return await lookAt(options, async () => {
    process.env.KUBE_PKI_REPAIR_PATIENCE = "0.05";
    await then?.(await controlPlaneToRepair(undefined));
    return isInPlace(await controlPlaneToRepair(undefined));
  });
}

test.each<[string, FakeCommand[]]>([
  ["the runtime says at once how it runs", [RUNS, ETCD, SIDECAR]],
  ["the runtime does not list its containers at first", [{ command: PS, ...LATE }, RUNS, ETCD, SIDECAR]],
  ["the runtime does not tell of etcd at first", [RUNS, { ...ETCD, ...LATE }, ETCD, SIDECAR]],
  ["the runtime never tells of its sidecar", [RUNS, ETCD, { ...SIDECAR, ...LATE }]],
  ["its sidecar ends meanwhile", [RUNS, ETCD]],
])("a sound etcd stays, whatever admission has made of its mirror pod: %s", async (_, commands) => {
  expect(await inPlace(commands)).toBe(true);
});

test("an etcd that is a unit is in place while all files are here by which it and the API server meet", async () => {
  const options = {
    kind: "healthy control plane node",
    ...{ members: [UNIT_MEMBER], commands: commandsOf("KubeKey") },
    etcd: (objects: Objects) => external(objects, "KubeKey"),
    change: ({ root }: { root: string }) => layOut(root, "KubeKey"),
  } as const;
  const look = async () => isInPlace(await controlPlaneToRepair(undefined));
  const seen = await lookAt(options, async ({ root }) => {
    const before = await look();
    rmSync(`${root}/etc/kubernetes/pki/etcd/client.crt`);
    return [before, await look()];
  });
  expect(seen).toEqual([true, false]);
});

test("a container of which nothing is told any more does not hide what part 1 has kept of it", async () => {
  const keep = async (cp: ControlPlaneNode) => {
    await copyLargeTree("/var/lib/etcd", rescuedEtcd(cp.rescue));
    keepContainerRecords(cp);
  };
  const once = [RUNS, ETCD, { ...ETCD, ...LATE }, SIDECAR];
  expect(await inPlace(once, async () => undefined)).toBe(false);
  expect(await inPlace(once, keep)).toBe(true);
});

/** etcd's file and its mirror pod, by their releases; `runs`: the mirror pod's own container. Whether the file stays. */
async function keptBeside(file: string, mirror: string, runs = false) {
  const withImage = (pod: ReturnType<typeof manifest>, release: string) => {
    pod.spec.containers[0]!.image = `${image}/etcd:${release}`;
    return pod;
  };
  const change = ({ root }: { root: string }) => {
    const path = `${root}/etc/kubernetes/manifests/etcd.yaml`;
    write(path, JSON.stringify(withImage(manifest("etcd"), file)));
    const before = new Date(Date.now() - 3600_000);
    utimesSync(path, before, before);
  };
  const etcd = (objects: Objects) => {
    const pod = withImage(mirrorPod("etcd"), mirror);
    pod.metadata.annotations!["kubernetes.io/config.hash"] = staticUid("etcd");
    objects["pods/kube-system/etcd-m1"] = pod;
  };
  const other = [{ name: "etcd", pod: "etcd-m1", podUid: staticUid("of the file") }];
  const commands = [
    { command: PS, stdout: runs ? crictlPs(["etcd"]) : crictlPs([], other) },
    inspected("etcd", `${image}/etcd:${mirror}`),
  ];
  return await lookAt({ kind: "healthy control plane node", etcd, commands, change }, async () =>
    isInPlace(await controlPlaneToRepair(undefined)),
  );
}

test.each<[string, string, string, boolean, boolean]>([
  ["the file is newer, and runs", "3.6.5-0", "3.5.21-0", false, true],
  [
    "the file is newer by a patch: any of a minor release opens the data",
    "3.5.24-0",
    "3.5.21-0",
    false,
    false,
  ],
  ["the file is newer, and the mirror pod's own container runs", "3.6.5-0", "3.5.21-0", true, false],
  ["the file is older", "3.5.21-0", "3.6.5-0", false, false],
  ["the file's release cannot be read", "mirrored", "3.5.21-0", false, false],
])("half a kubeadm upgrade: %s", async (_, file, mirror, runs, kept) => {
  expect(await keptBeside(file, mirror, runs)).toBe(kept);
});

test("part 2 looks at its work once: later steps issue and start that, and ask no second time", async () => {
  const lost = [
    "manifests/kube-apiserver.yaml",
    "manifests/kube-scheduler.yaml",
    "scheduler.conf",
    "admin.conf",
  ];
  const change = ({ root }: { root: string }) => {
    for (const file of lost) rmSync(`${root}/etc/kubernetes/${file}`);
  };
  await lookAt({ kind: "healthy control plane node", change }, async ({ root }) => {
    const isBack = () => lost.filter((file) => existsSync(`${root}/etc/kubernetes/${file}`));
    const cp = await controlPlaneToRepair(undefined);
    const { pki, pods } = await lookAtServers(cp);
    const half = {
      pki: pki.filter(({ finding }) => finding.name !== "admin"),
      pods: pods.filter(({ name }) => name !== "kube-apiserver"),
    };
    const issued = await issueForServers(cp, half);
    expect([issued, isBack()]).toEqual([["/etc/kubernetes/scheduler.conf"], ["scheduler.conf"]]);
    await startServers(cp, half, issued);
    expect(isBack()).toEqual(["manifests/kube-scheduler.yaml", "scheduler.conf"]);
  });
});

const UNIT = "/etc/systemd/system/kubelet.service";
const USUAL = "/etc/kubernetes/pki";

test.each<[what: string, place: (root: string) => void, linked: string | undefined]>([
  ["all is lost, and kubespray has made it", (root) => write(root + UNIT, KUBESPRAY_KUBELET), "ssl"],
  ["all is lost, and nothing says that there was a link", () => undefined, undefined],
  [
    "a static pod's path leads through it",
    (root) => write(`${root}/etc/kubernetes/manifests/own.yaml`, named("/etc/kubernetes/pki/ca.crt")),
    "ssl",
  ],
  [
    "a static pod's path leads past it",
    (root) => write(`${root}/etc/kubernetes/manifests/own.yaml`, named("/etc/kubernetes/pki-own/ca.crt")),
    undefined,
  ],
  [
    "a server's certificate is here: what has expired or is missing alone tells nothing of a link",
    (root) => {
      write(root + UNIT, KUBESPRAY_KUBELET);
      write(`${root}/etc/kubernetes/ssl/apiserver.crt`, "");
    },
    undefined,
  ],
  [
    "a link is left that leads nowhere now",
    (root) => {
      write(root + UNIT, KUBESPRAY_KUBELET);
      symlinkSync("/mnt/pki", root + USUAL);
    },
    "/mnt/pki",
  ],
  [
    "a folder is there",
    (root) => {
      write(root + UNIT, KUBESPRAY_KUBELET);
      write(`${root}${USUAL}/own.crt`, "");
    },
    undefined,
  ],
])("kubeadm's usual folder where the certificates are elsewhere: %s", async (_, place, linked) => {
  const etcd = (objects: Objects) => {
    for (const [key, object] of Object.entries(objects))
      objects[key] = JSON.parse(JSON.stringify(object).replaceAll(USUAL, "/etc/kubernetes/ssl"));
  };
  await lookAt({ etcd }, async ({ root }) => {
    write(`${root}/etc/kubernetes/admin.conf`, "");
    rmSync(`${root}/var/lib/kubelet/config.yaml`);
    write(
      `${root}/var/lib/kubelet/config.yaml`,
      "staticPodPath: /etc/kubernetes/manifests\nauthentication: {x509: {clientCAFile: /etc/kubernetes/ssl/ca.crt}}\n",
    );
    place(root);
    const cp = await controlPlaneToRepair(undefined);
    for (const _ of [1, 2]) await linkUsualDir(cp);
    const isLink = lstatSync(root + USUAL, { throwIfNoEntry: false })?.isSymbolicLink();
    expect(isLink ? readlinkSync(root + USUAL) : undefined).toBe(linked);
  });
});

function named(path: string): string {
  return JSON.stringify({
    metadata: { name: "own", namespace: "kube-system" },
    spec: {
      containers: [
        {
          name: "own",
          command: [`--ca=${path}`],
          volumeMounts: [{ name: "v", mountPath: "/etc/kubernetes" }],
        },
      ],
      volumes: [{ name: "v", hostPath: { path: "/etc/kubernetes" } }],
    },
  });
}
