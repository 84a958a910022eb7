import type { Manifest } from "../../shared/objects/objects.ts";
/** etcd's data, and its log, in other folders of the host than kubeadm's. */

/** The pod with its data mounted from `dir` of the host, under the same path, and its log from `wal`. */
export function mountsAs(pod: Manifest, dir: string, wal?: string): Manifest {
  const moved = JSON.parse(JSON.stringify(pod).replaceAll("/var/lib/etcd", dir)) as Manifest;
  if (!wal) return moved;
  const { volumes = [], containers } = moved.spec;
  const [etcd] = containers;
  etcd!.command!.push(`--wal-dir=${wal}`);
  etcd!.volumeMounts!.push({ name: "etcd-wal", mountPath: wal });
  volumes.push({ name: "etcd-wal", hostPath: { path: wal, type: "DirectoryOrCreate" } });
  return moved;
}
