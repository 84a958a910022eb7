/** What 01-etcd refuses before it touches anything, each with its transcript, in this process. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { FACTS, type Objects, write } from "../pretend/cluster.ts";
import { expectTranscript, MEMBER, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-proxy"];

/** Runs 01-etcd where it has to stop: nothing was written, stopped or started. */
async function refused(transcript: string, options: NodeOptions, line = "01-etcd --new-cas") {
  using node = here(await pretendNode({ containers: CONTROL_PLANE, ...options }));
  const before = node.fingerprint();
  const run = await node.run(line);
  await expectTranscript(`01-etcd-${transcript}`, run);
  expect(run.exitCode).toBeOneOf([1, 3]); // the transcript has which
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => /stop|start/.test(call))).toEqual([]);
}

function edit(objects: Objects, key: string, from: string, to: string) {
  objects[key] = JSON.stringify(objects[key]).replace(from, to);
}

test("01-etcd without --new-cas refuses to make lost keys anew, and touches nothing", () =>
  refused("no-new-cas", {}, "01-etcd"));

test("01-etcd --new-internal-cas makes no new cluster CA, and touches nothing where that is lost", () =>
  refused("no-new-cluster-ca", {}, "01-etcd --new-internal-cas"));

test("01-etcd refuses a cluster with external etcd", () =>
  refused("external", {
    etcd: (objects) =>
      edit(
        objects,
        "configmaps/kube-system/kubeadm-config",
        "local:\\n    dataDir: /var/lib/etcd",
        "external: {}",
      ),
  }));

test("01-etcd refuses the data of another machine's member", () =>
  refused("other-member", { members: [{ ...MEMBER, name: "m9", peerURLs: ["https://10.0.0.9:2380"] }] }));

test("01-etcd refuses a sound CA of another cluster, and touches nothing", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  const older = await issueCa(certRow("ca"), FACTS, { now: new Date(Date.now() - 2 * 8760 * 3600_000) });
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, older.cert);
  write(`${node.root}/etc/kubernetes/pki/ca.key`, older.key);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining(
      "is of another CA, sha256:HASH, made before the one that etcd's data names",
    ),
  });
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => /stop|start/.test(call))).toEqual([]);
});

test("01-etcd refuses a data directory without a member: etcd's data is gone", async () => {
  using node = here(await pretendNode());
  rmSync(`${node.root}/var/lib/etcd/member`, { recursive: true });
  const before = node.fingerprint();
  await expectTranscript("01-etcd-no-member", await node.run("01-etcd --new-cas"));
  expect(node.fingerprint()).toEqual(before);
});

test("01-etcd refuses data in which the ConfigMaps are encrypted", () =>
  refused("encrypted", {
    etcd: (objects) => {
      objects["configmaps/kube-system/kube-root-ca.crt"] = "k8s:enc:secretbox:v1:key1:\u0001";
    },
  }));

test("01-etcd refuses a machine that does not have the API server's address", () =>
  refused("other-address", {
    commands: [
      {
        command: "ip -j addr",
        stdout: JSON.stringify([{ addr_info: [{ scope: "global", local: "10.9.9.9" }] }]),
      },
    ],
  }));

test("01-etcd refuses where the mirror pods are gone", () =>
  refused("no-mirror-pod", {
    etcd: (objects) => {
      delete objects["pods/kube-system/etcd-m1"];
    },
  }));

test("01-etcd refuses where crictl is missing", () => refused("no-crictl", { without: ["crictl"] }));

test("01-etcd refuses a machine that is no node", () => refused("no-node", { kind: "no node" }));
