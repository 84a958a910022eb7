/** What a snapshot, or a lost member's data, holds: said with numbers before anything is written. */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { duration, minute } from "../evidence/server-clock.ts";
import { type Cluster, type KnownNode, readCluster } from "../facts/cluster.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import type { Pod, StoredObject } from "../objects/objects.ts";
import { readObject, readObjects, registryPrefix } from "../objects/stored.ts";
import { listed } from "../plain.ts";
import { say } from "../run.ts";

export interface Content {
  data: EtcdData;
  cluster: Cluster;
  /** The control plane node that this machine becomes. */
  node: KnownNode;
}

/**
 * Errors: as `readCluster`; Refused where the cluster's etcd is external, or has no such control plane node.
 */
export function contentFor(data: EtcdData, as: string): Content {
  const cluster = readCluster(data);
  if (cluster.configuration.etcd?.external)
    throw new Refused("This cluster's etcd is external: kubeadm does not keep it", {
      hint: 'nothing was changed. Restore it where it runs, by its own means: RUNBOOK-MORE "If etcd is external"',
    });
  const node = cluster.nodes.find(({ name }) => name === as);
  const controlPlanes = cluster.nodes.filter(({ controlPlane }) => controlPlane).map(({ name }) => name);
  if (node?.controlPlane) return { data, cluster, node };
  throw new Refused(`"${as}" is none of the control plane nodes that the data knows`, {
    hint: `nothing was changed. This machine becomes one of ${controlPlanes.join(", ")}: ${again({ as: controlPlanes[0] ?? "NODE" })}`,
  });
}

/**
 * The newest Lease of a control plane node's kubelet, which no other kubelet writes: a file's own time is
 * that of its last copy.
 */
function takenAt({ data, cluster }: Content): Date | undefined {
  const times = cluster.nodes
    .filter(({ controlPlane }) => controlPlane)
    .map(({ name }) =>
      attempt(() => readObject<StoredObject>(data, `leases/kube-node-lease/${name}`), undefined),
    )
    .map((lease) => Date.parse((lease?.spec as { renewTime?: string } | undefined)?.renewTime ?? ""))
    .filter((time) => !Number.isNaN(time));
  return times.length > 0 ? new Date(Math.max(...times)) : undefined;
}

/** `until`: what it has is as of then, where its Leases do not tell. */
export function sayContent(content: Content, until: Date) {
  const { data, cluster } = content;
  const newest = takenAt(content);
  const age = Date.now() - (newest ?? until).getTime();
  const by = newest ? "the newest Lease of a control plane node" : "the file's own time: no Lease tells";
  say(`as of ${minute(newest ?? until)}, ${duration(age)} ago, by ${by}`);
  const count = (place: string) => data.keys(`${registryPrefix(data)}/${place}/`).length;
  const claims = withVolumes(data);
  const sets = `${claims.length} StatefulSet(s) with volumes${claims.length > 0 ? `: ${listed(claims)}` : ""}`;
  const release = `${cluster.name}, Kubernetes ${cluster.kubernetesVersion}`;
  say(`${release}: ${count("minions")} node(s), ${count("pods")} pod(s), ${sets}`);
  say(`${data.keyCount} keys, revision ${data.revision}`);
  say("what was created since then is gone, and what was deleted since comes back");
  if (claims.length > 0)
    say(
      "their pods start where they were then: a volume that only one node may have (ReadWriteOnce) has to be free",
    );
  for (const warning of data.warnings) say(`warning: ${warning}`);
}

/** NAMESPACE/NAME of those with claims of their own. */
function withVolumes(data: EtcdData): string[] {
  const sets = attempt(() => readObjects<StoredObject>(data, "statefulsets/").toArray(), []);
  const owns = ({ spec }: StoredObject) =>
    ((spec as { volumeClaimTemplates?: unknown[] })?.volumeClaimTemplates ?? []).length > 0;
  return sets.filter(owns).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
}

/** Errors: Refused where the etcd that its manifest names is older than the data. */
export function refuseOlderImage({ data, node }: Content, storageVersion: string | undefined) {
  const pod = attempt(() => readObject<Pod>(data, `pods/kube-system/etcd-${node.name}`));
  const image = pod instanceof Fail ? undefined : pod?.spec.containers[0]?.image;
  const [stored, named] = [storageVersion, image?.split(":").at(-1)].map((version) =>
    /^v?(\d+)\.(\d+)/.exec(version ?? ""),
  );
  if (!stored || !named) return;
  const number = ([, major, minor]: RegExpExecArray) => Number(major) * 1000 + Number(minor);
  if (number(stored) <= number(named)) return;
  throw new Refused(
    `The data is of etcd ${storageVersion}, and the manifest of ${node.name} names "${image}"`,
    {
      hint: "nothing was changed. etcd refuses data of a newer release: take --as a control plane node that was upgraded already, or another snapshot",
    },
  );
}
