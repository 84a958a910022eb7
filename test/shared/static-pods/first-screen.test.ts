/**
 * What a living API server shows of a certificate whose file is gone, before it ends: names that nobody else knows. And
 * files in part 1's way.
 */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { namesBefore } from "../../../shared/facts/names-before.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { failOf } from "../../../shared/fail.ts";
import { hostPath } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { keepServedCertificate, refuseFixedAtEtcd } from "../../../shared/static-pods/first-screen.ts";
import { refuseUnfitNode } from "../../../shared/static-pods/preflight.ts";
import { closedOnce } from "../../pretend/closed-once.ts";
import { ADDRESS, FACTS, healthyCp, write } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { CRICTL } from "../../pretend/node.ts";
import { serveRunning } from "../../pretend/running.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const AT = { hostname: ADDRESS, port: 6443 };
const FILE = "/etc/kubernetes/pki/apiserver.crt";
const BY_HAND = ["api.old.example", "10.9.9.9"];
const row = certRow("apiserver");
const tls = await issueLeaf(row, ca, { ...FACTS, certSANs: BY_HAND });

type Serve = (next: () => Disposable) => Disposable | undefined;
const silent: Serve = () => {
  const server = Bun.listen({ ...AT, socket: { open: (socket) => void socket.end(), data() {} } });
  return { [Symbol.dispose]: () => server.stop(true) };
};

interface Row {
  serve: Serve;
  containers?: string[];
  /** A copy of its certificate is in the rescue folder. */
  copied?: true;
  dryRun?: boolean;
}

/** Which names by hand are known afterwards; what was said of them; how often the runtime was asked. */
async function kept({ serve, containers = ["kube-apiserver"], copied, dryRun = false }: Row) {
  const change = ({ root }: { root: string }) => fs.rmSync(root + FILE);
  return await lookAt({ kind: "healthy control plane node", containers, change }, async (node, said) => {
    process.env.KUBE_PKI_REPAIR_PATIENCE = "0.05";
    mode.dryRun = dryRun;
    const cp = await controlPlaneToRepair(undefined);
    if (copied) write(`${node.root}${cp.rescue.dir}/before${FILE}`, tls.cert);
    using _server = serve(() => serveRunning(node, { tls }));
    const before = node.calls().length;
    try {
      await keepServedCertificate(cp);
    } finally {
      mode.dryRun = false;
    }
    const asked = node
      .calls()
      .slice(before)
      .filter((call) => call === `${CRICTL} ps -a -o json`).length;
    return {
      names: namesBefore(row, cp),
      asked,
      warned: said.some((line) => line.startsWith("warning: kube-apiserver")),
    };
  });
}

test.each<[string, Row]>([
  ["at once", { serve: (next) => next() }],
  ["at the second question", { serve: (next) => closedOnce(AT, next) }],
])("what an API server shows %s is kept, and its names with it", async (_, row) => {
  expect(await kept(row)).toEqual({ names: BY_HAND, asked: expect.any(Number), warned: false });
});

test("one that answers at once is asked nothing more", async () => {
  expect((await kept({ serve: (next) => next() })).asked).toBe(0);
});

test.each([false, true])("where none runs, nobody waits (dry run: %p)", async (dryRun) => {
  const none = { names: [], warned: false };
  expect(await kept({ serve: silent, containers: ["etcd"], dryRun })).toEqual({ ...none, asked: 1 });
  expect(await kept({ serve: () => undefined, dryRun })).toEqual({ ...none, asked: 0 });
});

test("where a copy tells, nobody waits for one that is silent", async () => {
  expect(await kept({ serve: silent, copied: true })).toEqual({ names: BY_HAND, asked: 0, warned: false });
});

test("one that runs and stays silent takes its names with it: that is said", async () => {
  expect(await kept({ serve: silent })).toMatchObject({ names: [], warned: true });
});

test("a mounted manifest of the API server is in part 1's way where that server has to wait aside for a certificate, and only there", async () => {
  await lookAt({ kind: "healthy control plane node" }, async ({ root }) => {
    const at = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    write(`${root}/proc/self/mountinfo`, `23 22 0:30 /x ${at} rw - ext4 /dev/sda rw\n`);
    const cp = await controlPlaneToRepair(undefined);
    const look = () => refuseFixedAtEtcd(cp, { pki: [], pods: [] });
    expect(look).not.toThrow();
    fs.rmSync(root + FILE);
    expect(look).toThrow(`Cannot replace "${at}": it is a mount of its own`);
  });
});

/** Of what is there, this alone can only be read. */
function readOnly(path: string) {
  const real = fs.accessSync;
  return spyOn(fs, "accessSync").mockImplementation((asked, mode) => {
    if (asked === hostPath(path)) throw Object.assign(new Error("read-only"), { code: "EROFS" });
    real(asked, mode);
  });
}

test("each folder that a part writes into is asked before anything stops: each may be a mount of its own", async () => {
  const etcds = ["/srv/etcd", "/srv/etcd/member/snap", "/srv/wal"];
  const folders = [
    ...["/root", "/etc/kubernetes", "/srv/pki", "/srv/pods", "/srv/kubelet", "/srv/client"],
    ...etcds,
  ];
  const refused = await lookAt({ kind: "healthy control plane node" }, async ({ root }) => {
    const { rescue, facts, node } = await controlPlaneToRepair(undefined);
    for (const folder of folders) fs.mkdirSync(root + folder, { recursive: true });
    const files = { kubeconfig: "/srv/kubelet/conf", clientPem: "/srv/client/pem" };
    const kubelet = { ...node.kubelet, ...files, staticPodPath: "/srv/pods" };
    const cp = {
      ...{ rescue, node: { ...node, kubelet }, facts: { ...facts, certificatesDir: "/srv/pki" } },
      etcd: { dir: "/srv/etcd", wal: "/srv/wal" },
    } as never;
    await refuseUnfitNode(cp);
    const seen: (string | undefined)[] = [];
    for (const folder of folders) {
      using _ = readOnly(folder);
      seen.push((await failOf(() => refuseUnfitNode(cp)))?.message);
    }
    return seen;
  });
  expect(refused).toEqual(folders.map((folder) => `Cannot write to ${folder}: read-only`));
});
