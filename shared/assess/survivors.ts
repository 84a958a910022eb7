/** Where lost keys may still be. */
import { dirname } from "node:path";
import { command } from "../again.ts";
import { fetchLine, managedNode } from "../facts/ca-holders.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import type { LostNodes } from "../facts/course.ts";
import { believedPeers } from "../facts/next.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { registryPrefix, sealedIn } from "../objects/stored.ts";
import { snapshotsWith } from "../salvage/keys-in-copies.ts";
import { shell } from "../shell-line.ts";
import type { Survivor } from "./assessment.ts";

interface Seen {
  known: PartialFacts;
  node: Node;
  running: Container[] | Fail;
  lost: LostNodes;
}

export function survivors({ known, node, running, lost }: Seen): Survivor[] {
  return [
    othersHave(known, { node, without: lost.names }),
    backup(known),
    ...snapshots(known),
    ...managementCluster(known, node),
    memory(running),
    kubeadmCerts(known),
  ];
}

function othersHave(
  { cluster, certificatesDir }: PartialFacts,
  here: { node: Node; without: readonly string[] },
): Survivor {
  const where = "another control plane node";
  const same = `each control plane node has the same keys, in ${certificatesDir}`;
  if (!cluster) return { where, hope: "unknown", detail: `if there is one: ${same}` };
  return believedPeers(cluster, here).length > 0
    ? { where, hope: "worth a try", detail: `look there first: ${same}` }
    : { where, hope: "none", detail: "this cluster has only this one" };
}

function backup({ certificatesDir }: PartialFacts): Survivor {
  const detail = `of ${certificatesDir}, of any age, if the CA was the same: ${command("00-salvage")} --backup DIR`;
  return { where: "a backup", hope: "worth a try", detail };
}

/** Of this disk, by snapper or rpm-ostree; and the history of /etc that etckeeper makes. */
function snapshots({ certificatesDir }: PartialFacts): Survivor[] {
  const [newest] = snapshotsWith(certificatesDir);
  const line =
    newest && `${command("00-salvage")} ${shell`--backup ${dirname(`${newest}${certificatesDir}`)}`}`;
  const history = `keys of a commit: git -C /etc log --oneline -- kubernetes; (umask 077; mkdir /dev/shm/etc && git -C /etc archive COMMIT kubernetes | tar -xC /dev/shm/etc); ${command("00-salvage")} --backup /dev/shm/etc`;
  return [
    ...(line ? [{ where: "a snapshot of this disk", hope: "worth a try", detail: line }] : []),
    ...(exists("/etc/.git") ? [{ where: "etckeeper", hope: "worth a try", detail: history }] : []),
  ];
}

function managementCluster({ data }: PartialFacts, { name }: Node): Survivor[] {
  const managed = managedNode(data, name);
  if (!managed) return [];
  const detail = `it made this node. With its kubeconfig: ${fetchLine(managed)}; bring that folder here, then ${command("00-salvage")} --backup /dev/shm/keys`;
  return [{ where: "Cluster API's management cluster", hope: "worth a try", detail }];
}

/** Servers that may have a lost key in memory. */
const HOLDERS = ["kube-controller-manager", "kube-apiserver"];

function memory(running: Container[] | Fail): Survivor {
  const where = "memory";
  if (running instanceof Fail)
    return {
      where,
      hope: "unknown",
      detail: "see containers above. Until they can be seen: stop the kubelet, touch nothing else",
    };
  const alive = running.filter((c) => isServerContainer(c) && HOLDERS.includes(c.name)).map((c) => c.name);
  if (alive.length === 0) return { where, hope: "no", detail: "no control-plane process is left" };
  return {
    where,
    hope: "worth a try",
    detail:
      `${alive.join(", ")} still ${alive.length === 1 ? "runs" : "run"} and may hold ca.key or sa.key. ` +
      `Stop the kubelet, restart nothing, then ${command("00-salvage")}`,
  };
}

function kubeadmCerts({ data }: PartialFacts): Survivor {
  const where = "kubeadm-certs Secret";
  const found = attempt(() => data?.get(`${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`));
  if (!found || found instanceof Fail) return { where, hope: "no", detail: "not in etcd's data" };
  const sealed = sealedIn(found.key, found.value);
  if (sealed?.provider === "kms")
    return { where, hope: "no", detail: `only the KMS plugin "${sealed.keyName}" opens it` };
  return {
    where,
    hope: "worth a try",
    detail: `it is in etcd's data; ${command("00-salvage secret")} opens it with the key that kubeadm init --upload-certs printed`,
  };
}
