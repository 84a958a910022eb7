/**
 * 02-control-plane where somebody ran `kubeadm certs renew` and restarted nothing: who works with what he has
 * read goes on, who does not starts again.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { utimesSync } from "node:fs";
import type { Objects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { CRICTL, crictlPs, pretendNode } from "../pretend/node.ts";

setDefaultTimeout(300_000);

const HOUR = 3600_000;

/** Who goes on renewing is never late: not on a busy machine either. */
const NOW = -HOUR;

function lease(name: string, holderIdentity: string, ago: number) {
  const spec = {
    holderIdentity,
    renewTime: new Date(Date.now() - ago).toISOString(),
    leaseDurationSeconds: 15,
  };
  return {
    [`leases/kube-system/${name}`]: {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name },
      spec,
    },
  };
}

/** What is stopped, where these Leases are in etcd and the kubeconfigs are younger than the containers. */
async function stopped(leases: Objects): Promise<string[]> {
  const { containers } = JSON.parse(
    crictlPs(["kube-apiserver", "kube-controller-manager", "kube-scheduler"]),
  );
  for (const one of containers) one.createdAt = `${Date.now() - 2 * HOUR}000000`;
  using node = await pretendNode({
    kind: "healthy control plane node",
    commands: [{ command: `${CRICTL} ps -a -o json`, stdout: JSON.stringify({ containers }) }],
    etcd: (objects) => Object.assign(objects, leases),
  });
  for (const file of ["scheduler.conf", "controller-manager.conf"])
    utimesSync(
      `${node.root}/etc/kubernetes/${file}`,
      new Date(Date.now() - HOUR),
      new Date(Date.now() - HOUR),
    );
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return node.calls().flatMap((call) => / stop --timeout 0 (\S+)-id$/.exec(call)?.[1] ?? []);
}

test("a controller-manager whose Lease nobody renews starts again; a scheduler that leads goes on", async () => {
  const leases = {
    ...lease("kube-controller-manager", "m1_a", HOUR),
    ...lease("kube-scheduler", "m1_b", NOW),
  };
  expect(await stopped(leases)).toEqual(["kube-controller-manager"]);
});

test("who only waits while another host leads starts again: nobody can see whether it still could", async () => {
  const leases = {
    ...lease("kube-controller-manager", "m1_a", NOW),
    ...lease("kube-scheduler", "m2_b", NOW),
  };
  expect(await stopped(leases)).toEqual(["kube-scheduler"]);
});
