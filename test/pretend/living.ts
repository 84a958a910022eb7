/** A control plane node that is well, and whose servers run: nothing on it may be stopped. */
import { expect } from "bun:test";
import { stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import type { ApiOptions } from "./api.ts";
import { manifest, type Objects, write } from "./cluster.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { LEASES, lease } from "./running.ts";

/** What ends or starts something. */
export const CHANGES = /systemctl (stop|start|restart)|crictl .* stop|systemd-run/;
export const SERVER_NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/** A control plane node that is well. `flag`: one more of etcd's, on disk and in its mirror pod. */
export async function livingNode({ flag, ...options }: NodeOptions & { flag?: string } = {}) {
  const withFlag = (objects: Objects) => {
    const pod = objects["pods/kube-system/etcd-m1"] as Manifest;
    if (flag) pod.spec.containers[0]!.command!.push(flag);
  };
  const node = await pretendNode({
    kind: "healthy control plane node",
    containers: SERVER_NAMES,
    etcd: withFlag,
    ...options,
  });
  const etcd = manifest("etcd");
  if (flag) etcd.spec.containers[0]!.command!.push(flag);
  write(`${node.root}/etc/kubernetes/manifests/etcd.yaml`, stringify(etcd, { lineWidth: 0 }));
  return node;
}

type Node = Awaited<ReturnType<typeof livingNode>>;

/**
 * Ends well, and nothing was stopped, started or written. The first run makes what the pretend API does not
 * have.
 */
export async function expectNothingDone(node: Node, line: string, env: Record<string, string> = {}) {
  await node.run(line);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line, env);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
}

/** All nodes renew their Leases, however long the runs take. */
export const renewing: NonNullable<ApiOptions["on"]> = (_, { objects }) => {
  for (const [path, object] of objects)
    if (path.startsWith(LEASES)) objects.set(path, { ...object, ...lease(0) });
  return undefined;
};
