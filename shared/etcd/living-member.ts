/**
 * Proves that this machine is no living control plane node, before it is emptied and joins again. The line
 * for that is printed on another node: typed on the wrong one, it would take a living member out of the
 * cluster. Reads only.
 */

import { again, command } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { etcdClient, unlessSilent } from "../etcd-location/client.ts";
import { type EtcdFolders, holdsData, isKnown, readFolders } from "../etcd-location/etcd-folders.ts";
import { etcdHome } from "../etcd-location/etcd-home.ts";
import { etcdDataOf } from "../etcd-location/etcd-place.ts";
import { placeOf } from "../etcd-location/reach-etcd.ts";
import { controlPlaneWithoutData, refuseOtherEtcd } from "../facts/no-etcd-data.ts";
import { attempt, Fail, failOf, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { certificatesDirOn, manifestPath } from "../manifests/on-disk.ts";
import { type Container, containers, isServerContainer } from "../node/containers.ts";
import { kubeletActive, type Node } from "../node/node.ts";
import { canonicalIp } from "../pki/addresses.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { sayWhile, waitFor } from "../wait-for.ts";

interface SaidLost {
  /** Its API server's IP address, as part 2 printed it. */
  host: string;
  /** The node's name, if the operator says that it is lost whatever is here. */
  lost: string | undefined;
  etcdData: string | undefined;
}

/**
 * Errors: Refused on a worker, on another machine than `host`, if etcd or the API server runs, if another
 * member of etcd lists this one, and if etcd's data is here and nobody gives it up.
 */
export async function refuseLivingNode(node: Node, { host, lost, etcdData }: SaidLost) {
  const all = await containers(node.runtimeEndpoint);
  const place = await etcdDataOf(etcdData, { node, all });
  refuseOtherEtcd({ node, place }, { always: true });
  const { runs, servers } = etcdHome({ node, dataDir: place.dir, all, living: place.living });
  if (place.living || (runs === "elsewhere" && servers.length > 0))
    throw new Refused(
      `"${node.name}" is no member of etcd, which is on other machines: nothing joins again`,
      {
        unchanged: true,
        hint: "bring this node back with parts 1 and 2, the keys of the others first: ./bunw scripts/00-assess.ts",
      },
    );
  if (lost !== undefined && lost !== node.name)
    throw new Refused(`This is "${node.name}", not "${lost}"`, {
      unchanged: true,
      hint: "check that this is the right machine: --lost takes the name of the node on which it is typed",
    });
  if (lost === undefined) refuseNoControlPlane(node, place, all);
  refuseOtherMachine(node, host);
  refuseRunning(node, await stillRunning(node, all));
  if (holdsData(place))
    await refuseMember(node, { data: attempt(() => readFolders(place)), dir: place.dir, lost });
}

/**
 * A worker has its kubelet.conf. A control plane node whose /etc/kubernetes was deleted may have no trace of
 * its role.
 */
function refuseNoControlPlane(node: Node, place: EtcdFolders, all: readonly Container[]) {
  const { kubeconfig } = node.kubelet;
  if (!exists(kubeconfig) || isKnown(place) || controlPlaneWithoutData(node, place, all)) return;
  throw new Refused(`This is no control plane node: it has no trace of one, but it has "${kubeconfig}"`, {
    hint: `run it on a control plane node whose etcd data is lost. If "${node.name}" is one that has lost all of it: ${again({ lost: node.name })}`,
  });
}

export function refuseOtherMachine({ addresses }: Pick<Node, "addresses">, host: string) {
  if (addresses.map(canonicalIp).includes(canonicalIp(host))) return;
  throw new Refused(`"${host}" is no address of this machine (${addresses.join(", ")})`, {
    unchanged: true,
    hint: "log in to the machine with that address: the line is for that machine. If this is that machine, and it has a new address: give the new address to --address",
  });
}

const leaveOutFirst = (name: string) =>
  `on another control plane node ${command("02-control-plane", { lost: [name] })}; then this line again`;

/** Seconds: the kubelet gives a static pod thirty to exit. */
const TO_END = 60;

/** Leaves out those that the kubelet is about to stop, as they have no manifest any more. */
async function stillRunning(node: Node, all: readonly Container[]): Promise<Container[]> {
  const running = servers(all);
  const isEnding = running.length > 0 && running.every(({ name }) => !exists(manifestPath({ node }, name)));
  if (!isEnding || !(await kubeletActive())) return running;
  const now = async () => servers(await containers(node.runtimeEndpoint));
  const ended = async () => (await now()).length === 0;
  await failOf(() =>
    waitFor("etcd and kube-apiserver of this node to end", ended, { seconds: TO_END, hint: "crictl ps" }),
  );
  return await now();
}

function servers(all: readonly Container[]): Container[] {
  return all.filter(
    (one) => one.running && isServerContainer(one) && ["etcd", "kube-apiserver"].includes(one.name),
  );
}

function refuseRunning({ name }: Node, running: readonly Container[]) {
  if (running.length === 0) return;
  const names = [...new Set(running.map((one) => one.name))].sort();
  const ids = running.map(({ id }) => id.slice(0, 20));
  throw new Refused(
    `"${name}" is not lost: ${names.join(" and ")} ${names.length > 1 ? "run" : "runs"} here`,
    {
      unchanged: true,
      hint:
        "see what this node needs: ./bunw scripts/00-assess.ts. " +
        `If it is to join again all the same: here systemctl stop kubelet; ${shell`crictl stop ${ids}`}; ${leaveOutFirst(name)}`,
    },
  );
}

interface Left {
  data: EtcdData | Fail;
  dir: string;
  lost: string | undefined;
}

/**
 * kubeadm reset deletes the data. The other members say whether etcd continues without it; if none answers,
 * the operator does.
 */
async function refuseMember(node: Node, { data, dir, lost }: Left) {
  const answers =
    data instanceof Fail
      ? []
      : await sayWhile("the other members of etcd to answer", ASK_HINT, () => whoLists(data, node));
  const lists = answers.find(({ isListed }) => isListed);
  if (lists)
    throw new Refused(`"${node.name}" is a member of etcd: ${lists.name} lists it`, {
      unchanged: true,
      hint: `see what this node needs: ./bunw scripts/00-assess.ts. If its data is to be given up: ${leaveOutFirst(node.name)}`,
    });
  if (answers[0])
    return say(
      `etcd's data in "${dir}" is of a former member, says ${answers[0].name}: kubeadm reset deletes it`,
    );
  if (lost !== undefined)
    return say(`etcd's data in "${dir}" is given up, as --lost says: kubeadm reset deletes it`);
  throw new Refused(
    `etcd's data is here, in "${dir}", and nothing proves that etcd continues without this member`,
    {
      unchanged: true,
      hint:
        "see what this node needs: ./bunw scripts/00-assess.ts. " +
        `If ${command("02-control-plane", { lost: [node.name] })} has taken it out, on another control plane node: ${again({ lost: node.name })}`,
    },
  );
}

const ASK_HINT = "end it with Ctrl-C: nothing was changed";

/**
 * Each accepts the certificates on this disk. One that is alone may have been off since before this one joined.
 */
async function whoLists(data: EtcdData, node: Node) {
  const others = data.members.filter(({ id }) => id !== data.memberId);
  const answers = others.map(async (member) => {
    const { host } = placeOf(member);
    const client = etcdClient({ certificatesDir: certificatesDirOn(node), advertiseAddress: host });
    const members = await unlessSilent(async () =>
      (await client?.status())?.clusterId === data.clusterId ? client!.members({ agreed: true }) : undefined,
    );
    return members
      ? [{ name: memberName(member), isListed: members.some(({ id }) => id === data.memberId) }]
      : [];
  });
  return (await Promise.all(answers)).flat();
}
