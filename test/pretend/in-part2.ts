/**
 * A control plane node in part 2: between part 1, which was run here for real, and the API server that part 2
 * starts.
 */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, type Objects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { LEASES, living, MANAGER_LEASE, newLeader } from "../pretend/running.ts";

const NODES = ["m1", "w1", "w2"];

type Node = Awaited<ReturnType<typeof pretendNode>>;

/**
 * A control plane node that has been through part 1: run here for real, against a pretend etcd that stays.
 */
export async function afterPart1(options: NodeOptions = {}) {
  const node = await pretendNode(options);
  const part1 = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  const etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await part1;
  if (exitCode !== 0) etcd[Symbol.dispose]();
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return Object.assign(node, { etcd });
}

/**
 * The API of the old objects, with the certificate that part 2 wrote. The kubelets of `alive` renew their
 * Leases: with a new CA only this node's, before part 3.
 */
export function servePart2(
  node: Node,
  kids: string[] = [],
  own = () => serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub")),
  alive = node.read("/etc/kubernetes/pki/ca.crt") === node.ca.cert ? NODES : ["m1"],
) {
  const [cert, key] = ["crt", "key"].map((end) =>
    readFileSync(`${node.root}/etc/kubernetes/pki/apiserver.${end}`, "utf8"),
  );
  const leader = {
    spec: { holderIdentity: "m1_dead", renewTime: "2026-01-01T00:00:00.000000Z", leaseDurationSeconds: 15 },
  };
  return pretendApi({
    hostname: ADDRESS,
    port: 6443,
    tls: { cert: cert!, key: key! },
    on: living(alive, ({ path, method }, { objects }) => {
      if (method === "DELETE" && path === MANAGER_LEASE) return newLeader(objects);
      return path === "/openid/v1/jwks"
        ? Response.json({ keys: [own(), ...kids].map((kid) => ({ kid })) })
        : undefined;
    }),
    objects: {
      ...Object.fromEntries(NODES.map((name) => [`/api/v1/nodes/${name}`, {}])),
      "/api/v1/namespaces/kube-public/configmaps/cluster-info": {
        data: { kubeconfig: "old", "jws-kubeconfig-abcdef": "old" },
      },
      "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": {
        data: { "client-ca-file": node.ca.cert },
      },
      [MANAGER_LEASE]: leader,
      ...Object.fromEntries(
        NODES.map((name) => [`${LEASES}/${name}`, { spec: { renewTime: "2026-01-01T00:00:00.000000Z" } }]),
      ),
    },
  });
}

/** kube-vip's mirror pod in etcd. */
export const withVip = (mirror: object) => (objects: Objects) => {
  objects["pods/kube-system/kube-vip-m1"] = mirror;
};
