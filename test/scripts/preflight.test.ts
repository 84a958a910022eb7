/**
 * Before parts 1 and 2 stop anything: what the coming steps need is looked at, and one screen says what will
 * be done.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { parse, stringify } from "yaml";
import { mainContainer } from "../../shared/manifests/command.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { keptWords } from "../pretend/kept-words.ts";
import { CRICTL, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { knewCa, serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";
import { dbFile } from "../pretend/write-db.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/** The mirror pod of one of m1's static pods. */
function podOf(objects: Objects, name: string): Manifest {
  return objects[`pods/kube-system/${name}-m1`] as Manifest;
}

function release(objects: Objects, version: string) {
  const config = objects["configmaps/kube-system/kubeadm-config"] as {
    data: { ClusterConfiguration: string };
  };
  config.data.ClusterConfiguration = stringify({
    ...parse(config.data.ClusterConfiguration),
    kubernetesVersion: version,
  });
}

/** The runtime does not have this pod's image. */
function without(image: string): NodeOptions {
  return {
    commands: [
      {
        command: `${CRICTL} inspecti -q registry.k8s.io/${image}*`,
        exit: 1,
        stderr: 'FATA[0000] no such image "x" present\n',
      },
    ],
  };
}

test.each(["etcd", "kube-scheduler"])(
  "01-etcd: where the image of %s is not here, nothing is stopped, and the line that brings it is printed",
  async (name) => {
    using node = await pretendNode({ containers: SERVERS, ...without(name) });
    const wanted = new RegExp(
      `image "registry\\.k8s\\.io/${name}:[\\w.-]+" \\(${name}\\) is not on this node`,
    );
    await expectRefusal(
      node,
      "01-etcd --new-cas",
      wanted,
      /crictl pull registry.*ctr -n k8s\.io images import.*--images-later/,
      REFUSED,
    );
    const { exitCode, stderr } = await node.run("01-etcd --new-cas --images-later --dry-run");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toMatch(new RegExp(`warning: ${wanted.source}`));
  },
);

test("02-control-plane: --images-later, said once to part 1, holds here; it ends when the image is here", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: SERVERS,
    ...without("kube-apiserver"),
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  write(`${node.root}/etc/kubernetes/pki/apiserver.crt`, "");
  const image = mainContainer(parse(node.read("/etc/kubernetes/manifests/kube-apiserver.yaml")))!.image!;
  // part 2 does not look at etcd's, which the kubelet may still pull; the scheduler's is here
  const [etcds, here] = ["etcd", "kube-scheduler"].map(
    (name) => mainContainer(parse(node.read(`/etc/kubernetes/manifests/${name}.yaml`)))!.image!,
  ) as [string, string];
  const said = [image, etcds, here].map(
    (value) => ({ option: "images-later", value, by: "01-etcd" }) as const,
  );
  write(`${node.root}/run/kube-pki-repair-words.json`, keptWords(said));
  const { exitCode, stderr } = await node.run("02-control-plane --dry-run");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`as said at`);
  expect(stderr).toMatch(/warning: image ".*kube-apiserver:.* is not on this node; the kubelet pulls it/);
  expect(stderr.match(/.*: not any more, .*/g)).toEqual([
    expect.stringContaining(`the kubelet pulls ${here}: not any more, it is here`),
  ]);
});

test("02-control-plane: the same, before it issues anything", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: SERVERS,
    ...without("kube-apiserver"),
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  write(`${node.root}/etc/kubernetes/pki/apiserver.crt`, "");
  await expectRefusal(node, "02-control-plane", /image ".*kube-apiserver:/, /crictl pull/, REFUSED);
});

test("a healthy node whose images are gone stays as it is: nothing is going to be started", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: SERVERS, ...without("") });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  for (const line of ["01-etcd", "02-control-plane"]) {
    const { exitCode, stderr } = await node.run(line);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  }
  expect(
    node.calls().filter((call) => /inspecti|systemctl (stop|start|restart)|crictl .* stop/.test(call)),
  ).toEqual([]);
});

const isRoot = process.getuid?.() === 0;

test.skipIf(!isRoot)(
  "static pods that do not run as root get key files that they can read, as kubeadm gives them",
  async () => {
    const users = {
      etcd: 2001,
      "kube-apiserver": 2002,
      "kube-controller-manager": 2003,
      "kube-scheduler": 2004,
    };
    using node = await pretendNode({
      containers: SERVERS,
      etcd: (objects) => {
        for (const [name, user] of Object.entries(users)) {
          const more = /api|manager/.test(name) ? { supplementalGroups: [2100] } : {};
          podOf(objects, name).spec.securityContext = { runAsUser: user, runAsGroup: user, ...more };
        }
      },
    });
    const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
    await node.called("systemctl restart kubelet");
    const owner = (path: string) => {
      const { uid, gid, mode } = statSync(`${node.root}/etc/kubernetes/${path}`);
      return `${uid}:${gid} ${(mode & 0o777).toString(8)}`;
    };
    expect(["server", "peer", "healthcheck-client"].map((file) => owner(`pki/etcd/${file}.key`))).toEqual([
      "2001:2001 600",
      "2001:2001 600",
      "0:0 600",
    ]);
    {
      using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
      expect(await running).toMatchObject({ exitCode: 0 });
      await node.run("02-control-plane");
    }
    const keys = [
      "apiserver",
      "apiserver-etcd-client",
      "apiserver-kubelet-client",
      "front-proxy-client",
      "sa",
      "ca",
    ].map((file) => owner(`pki/${file}.key`));
    expect(keys).toEqual([...Array(4).fill("2002:2002 600"), "0:2100 640", "2003:2003 600"]);
    expect(["admin", "controller-manager", "scheduler"].map((file) => owner(`${file}.conf`))).toEqual([
      "0:0 600",
      "2003:2003 600",
      "2004:2004 600",
    ]);
  },
);

test("static pods that must not run as root, whose user only their image knows, are named", async () => {
  using node = await pretendNode({
    containers: SERVERS,
    etcd: (objects) => {
      podOf(objects, "etcd").spec.securityContext = { runAsNonRoot: true };
    },
  });
  await expectRefusal(node, "01-etcd --new-cas", /etcd .*runAsNonRoot/, /runAsUser/, REFUSED);
});

test("etcd's database is full: 00-assess and 01-etcd say it, 02-control-plane waits for room", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: SERVERS, isFull: true });
  const lines = /etcdctl .* compact \d+; .* defrag; .* alarm disarm/;
  const assessed = await node.run("00-assess");
  expect(assessed.stdout).toMatch(/is full .*alarm NOSPACE/);
  write(`${node.root}/etc/kubernetes/pki/etcd/server.crt`, "");
  expect((await node.run("01-etcd --dry-run")).stderr).toMatch(/warning: .*alarm NOSPACE/);
  await node.run("01-etcd");
  using _etcd = serveEtcd(node.root, {
    ...sameEtcd(node.stored),
    alarms: [{ memberID: "1", alarm: "NOSPACE" }],
  });
  await expectRefusalOf(node, /is full .*alarm NOSPACE/, lines);
});

/** Part 2 changes nothing, after what part 1 has done. */
async function expectRefusalOf(node: Awaited<ReturnType<typeof pretendNode>>, error: RegExp, hint: RegExp) {
  const [before, calls] = [node.fingerprint(), node.calls().length];
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: REFUSED, stderr: expect.stringMatching(error) });
  expect(stderr).toMatch(hint);
  expect(node.fingerprint()).toEqual(before);
  expect(
    node
      .calls()
      .slice(calls)
      .filter((call) => /systemctl (stop|start|restart)|crictl .* stop/.test(call)),
  ).toEqual([]);
}

test("an API server that takes no bootstrap tokens: part 2 says it, and open makes no token that nobody accepts", async () => {
  const flag = "--enable-bootstrap-token-auth";
  const before = await otherCa();
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: SERVERS,
    etcd: (objects) => {
      const { command } = podOf(objects, "kube-apiserver").spec.containers[0]!;
      command!.splice(
        command!.findIndex((word) => word.startsWith(flag)),
        1,
      );
      knewCa(before.cert)(objects);
    },
  });
  const path = "/etc/kubernetes/manifests/kube-apiserver.yaml";
  write(node.root + path, node.read(path).replace(new RegExp(`^ *- ${flag}=true\n`, "m"), ""));
  write(`${node.root}/etc/kubernetes/scheduler.conf`, "");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  expect((await node.run("02-control-plane --dry-run")).stderr).toMatch(
    /warning: .*--enable-bootstrap-token-auth/,
  );
  await expectRefusal(
    node,
    "03-workers open",
    /takes no bootstrap tokens/,
    /--enable-bootstrap-token-auth=true.*kube-apiserver\.yaml/,
    REFUSED,
  );
});

test("a release before 1.29 is said to be not rehearsed; with dockershim it is refused by name", async () => {
  using node = await pretendNode({ etcd: (objects) => release(objects, "v1.26.3") });
  const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "warning: Kubernetes v1.26.3: releases before 1.29 are not rehearsed, but for one all-lost with 1.28.15; 1.24 and later with containerd or CRI-O seem to work",
  );
  expect((await node.run("00-assess")).stdout).toContain("releases before 1.29 are not rehearsed");
  using docker = await pretendNode({
    etcd: (objects) => release(objects, "v1.22.9"),
    commands: [{ command: `${CRICTL} ps -a -o json`, exit: 1 }],
  });
  for (const line of ["01-etcd --new-cas", "02-control-plane"])
    await expectRefusal(docker, line, /dockershim \(Kubernetes v1\.22\.9/, /by hand/, REFUSED);
  expect((await docker.run("00-assess")).stdout).toContain("dockershim");
});

const SCREEN = /== 1\.1 [\s\S]*?( {2}will stop: [\s\S]*?)\n\n== 1\.2/;

test("01-etcd: one screen before the first stop, the same in a dry run", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: SERVERS });
  write(`${node.root}/etc/kubernetes/pki/etcd/server.crt`, "");
  const dry = SCREEN.exec((await node.run("01-etcd --dry-run")).stderr)?.[1];
  expect(dry).toBe(
    [
      "  will stop: kubelet, etcd, kube-apiserver, kube-controller-manager, kube-scheduler; the API of the whole cluster is unavailable until part 2",
      "  will write in /etc/kubernetes/manifests: kube-controller-manager.yaml",
      "  will write in /etc/kubernetes/pki/etcd: server.crt, server.key",
      "  checked: room on the disk, the images of 4 static pods, no alarm in etcd, clock follows a time server",
      "  cluster CA known from: kube-root-ca.crt in etcd's data, /etc/kubernetes/pki/ca.crt, /etc/kubernetes/kubelet.conf",
    ].join("\n"),
  );
  expect(SCREEN.exec((await node.run("01-etcd")).stderr)?.[1]).toBe(dry!);
});

test("01-etcd on one of three: the screen says whose API is away", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: THREE, containers: SERVERS });
  const [cert, key] = ["crt", "key"].map((end) => node.read(`/etc/kubernetes/pki/etcd/server.${end}`));
  write(`${node.root}/etc/kubernetes/pki/etcd/peer.crt`, "");
  using _third = {
    peer: Bun.serve({
      hostname: THIRD_AT,
      port: 2380,
      tls: { cert: cert!, key: key! },
      fetch: () => new Response(),
    }),
    [Symbol.dispose]() {
      void this.peer.stop(true);
    },
  };
  const { stderr } = await node.run("01-etcd --dry-run");
  expect(stderr).toContain(
    "kube-scheduler; the API of the whole cluster is unavailable: 2 of its 3 members have to run, and 1 other runs\n",
  );
});

test("02-control-plane: one screen before the first stop; none where nothing is to be done", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: SERVERS });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  expect((await node.run("02-control-plane --dry-run")).stderr).not.toContain("will stop");
  write(`${node.root}/etc/kubernetes/scheduler.conf`, "");
  expect((await node.run("02-control-plane --dry-run")).stderr).toContain(
    [
      // nobody else reads it; a kubelet that restarts gets its controller-manager reduced
      "  will stop: kube-scheduler, kube-controller-manager (it starts reduced), kubelet; they start again at once",
      "  will stop later: kube-controller-manager (it starts in full), when each node renews its Lease or is named as away",
      "  will write in /etc/kubernetes: scheduler.conf",
      "  will write in /etc/kubernetes/manifests: kube-controller-manager.yaml",
    ].join("\n"),
  );
});

test.each<[string, string, boolean]>([
  ["3.6.0", "3.5.21-0", true],
  ["3.6.0", "3.6.5-0", false],
  ["3.5.0", "3.6.5-0", false],
])(
  "part 1: data of etcd %s, and a mirror pod of %s: an older etcd is put over no newer data",
  async (stored, release, refuses) => {
    const etcd = (objects: Objects) => {
      podOf(objects, "etcd").spec.containers[0]!.image = `registry.k8s.io/etcd:${release}`;
    };
    using node = here(await pretendNode({ etcd, containers: SERVERS }));
    const meta = { consistent_index: Buffer.alloc(8), storageVersion: stored, term: Buffer.alloc(8) };
    const buckets = { alarm: {}, auth: {}, key: {}, lease: {}, members: {}, members_removed: {}, meta };
    write(
      `${node.root}/var/lib/etcd/member/snap/db`,
      dbFile({ pageSize: 4096, perLeaf: 20, txid: 8n }, buckets),
    );
    const line = "01-etcd --new-cas --dry-run";
    if (!refuses) return expect(await node.run(line)).toMatchObject({ exitCode: 0 });
    const error =
      /^etcd's data is of etcd 3\.6\.0, and its manifest names "registry\.k8s\.io\/etcd:3\.5\.21-0"$/;
    await expectRefusal(node, line, error, /^put a manifest .*manifests\/etcd\.yaml/, REFUSED);
    await expectRefusal(node, "01-etcd --new-cas", error, /^put a manifest/, REFUSED);
  },
);
