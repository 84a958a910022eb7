/**
 * Where all control plane nodes are lost: the plan for a new machine, on which nothing of the cluster is but a
 * snapshot of its etcd, in the kit's folder (RUNBOOK-MORE.md, "Only a snapshot is left"). Its last step makes
 * the plan of the restored data, which says what a restore leaves to do.
 */
import { command } from "../again.ts";
import { readSnapshotData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { type Cluster, readCluster } from "../facts/cluster.ts";
import { attempt, Fail } from "../fail.ts";
import { refuseNoMemory } from "../files/file-system.ts";
import { exists, hostPath } from "../files/files.ts";
import { readNode, routedAddress } from "../node/node.ts";
import { typed } from "../options.ts";
import { withNames } from "../restore/content.ts";
import { shell } from "../shell-line.ts";
import type { Effort } from "./effort.ts";
import type { Plan, SeenStep } from "./make-plan.ts";
import { openLine, typedLines } from "./note.ts";
import { type Line, type PlanNode, sshLines } from "./paste.ts";
import { LOCKED, lyingHere } from "./plan-facts.ts";

const CHAPTER = 'RUNBOOK-MORE.md, "Only a snapshot is left"';

/** A node of the cluster has one of these, a new machine none. */
const TRACES = [
  "/var/lib/etcd/member",
  "/etc/kubernetes/kubelet.conf",
  "/etc/kubernetes/manifests/etcd.yaml",
  "/etc/kubernetes/manifests/kube-apiserver.yaml",
];

interface Snapshot {
  file: string;
  cluster: Cluster;
  controlPlanes: string[];
  unnamed: boolean;
}

/** Undefined where this machine is a node of the cluster, or has no snapshot of its etcd. */
export async function planOfRestore(
  user: string,
  { lost, "lost-on": lostOn }: Record<"lost" | "lost-on", readonly string[]>,
): Promise<Plan | undefined> {
  if (TRACES.some((path) => exists(path))) return undefined;
  const [locked] = lyingHere(LOCKED);
  const snapshot = lyingHere(".db").flatMap((file) => snapshotIn(file, lost) ?? [])[0];
  if (!snapshot && locked === undefined) return undefined;
  const here = await thisMachine();
  return snapshot ? ofSnapshot({ ...snapshot, lostOn }, here, user) : ofLocked(locked!, here, { user, lost });
}

/** Undefined where it is of no kubeadm cluster: restore.ts says more of it. Errors: Refused as by `withNames`. */
function snapshotIn(file: string, lost: readonly string[]): Snapshot | undefined {
  refuseNoMemory("read etcd's data");
  const opened = attempt(() => readSnapshotData(hostPath(typed(file))));
  if (opened instanceof Fail) return undefined;
  using data = opened;
  if (attempt(() => readCluster(data)) instanceof Fail) return undefined;
  const cluster = readCluster(withNames(data, lost));
  const controlPlanes = cluster.nodes.filter((node) => node.controlPlane).map(({ name }) => name);
  const unnamed = data.members.some(isNameless);
  return controlPlanes.length === 0 ? undefined : { file, cluster, controlPlanes, unnamed };
}

async function thisMachine(): Promise<PlanNode> {
  const { hostName, addresses } = await readNode({ mayBeGone: true });
  const address = (await routedAddress(addresses[0] ?? "", () => false)) ?? addresses[0];
  const role = "first control plane node";
  return address === undefined
    ? { name: hostName, role, address: "ADDRESS-OF-THIS-MACHINE", why: "ip addr shows none" }
    : { name: hostName, role, address };
}

function ofLocked(
  locked: string,
  here: PlanNode,
  { user, lost }: { user: string; lost: readonly string[] },
): Plan {
  const verdict = `nothing of a cluster is on this machine but a locked snapshot of its etcd, ${locked}`;
  const open = { number: "0a", does: "Open the snapshot", costs: "nothing", seconds: [1, 60] as const };
  const lines = typedLines(user, here, openLine("snapshot", locked));
  return page({ here, user, verdict }, [{ ...open, lines }, planAgain(here, user, lost)]);
}

/** The machine's own name, where a control plane node had it; else that of any of them. */
function ofSnapshot(
  { file, cluster, controlPlanes, unnamed, lostOn }: Snapshot & { lostOn: readonly string[] },
  here: PlanNode,
  user: string,
): Plan {
  const as = controlPlanes.find((name) => name === here.name) ?? controlPlanes[0]!;
  const lost = unnamed ? controlPlanes.filter((name) => name !== as) : [];
  const restore = `${command(shell`restore --as ${as}`, { lost, "lost-on": lostOn })} ${shell`${file}`}`;
  const verdict = `nothing of a cluster is on this machine but ${file}, a snapshot of the etcd of "${cluster.name}"; its control plane nodes were ${controlPlanes.join(", ")}`;
  return page({ here, user, verdict, cluster }, [
    {
      number: "0b",
      does: "See as of when the snapshot is, and what is in it",
      ...{ costs: "nothing: it reads only", seconds: [1, 30] },
      lines: sshLines(user, [here], `${restore} --dry-run`),
    },
    {
      number: "0c",
      does: `Make etcd's data of it: this machine becomes ${as}`,
      ...{ costs: "what was created since the snapshot is gone", seconds: [1, 60] },
      note: "It refuses while anything of the old control plane answers",
      ends: "done.  next: …",
      lines: sshLines(user, [here], restore),
    },
    {
      number: "0d",
      does: "Let the kubelet start with the machine",
      ...{ costs: "nothing", seconds: [0, 1] },
      lines: sshLines(user, [here], "systemctl enable kubelet"),
    },
    planAgain(here, user),
  ]);
}

/** A letter is the same one on the plan before the snapshot is opened, and behind it. */
type Unplaced = Effort & { number: string; lines: Line[]; exit?: number[]; ends?: string };

function planAgain(here: PlanNode, user: string, lost: readonly string[] = []): Unplaced {
  return {
    number: "0e",
    does: "Make the plan of what is here then, and follow that one",
    ...{ costs: "nothing: it reads only", seconds: [1, 15], exit: [0, 2] },
    lines: sshLines(user, [here], command("plan", { lost })),
  };
}

interface About {
  here: PlanNode;
  user: string;
  verdict: string;
  cluster?: Cluster;
}

function page({ here, user, verdict, cluster }: About, unplaced: readonly Unplaced[]): Plan {
  const place = { part: 0, way: "on", on: [here.name], sideBySide: false, exit: [0] } as const;
  const steps = unplaced.map((step) => ({ ...place, exit: [0], on: [...place.on], ...step }));
  return {
    ...{ node: here.name, user, verdict, nodes: [here], lost: [], away: [], anew: [], first: [] },
    cluster: cluster?.name,
    kubernetes: cluster?.kubernetesVersion,
    made: new Date(),
    aim: `This plan is for a cluster whose control plane nodes are all lost: this machine becomes one of them. If one of them lives, type nothing of it. ${CHAPTER}, says more.`,
    ownVerdict: verdict,
    ...{ looked: [`Looked at: ${here.name} (here)`], leftOut: [] },
    elsewhere: undefined,
    parts: [
      {
        ...{ number: 0, title: "Restore", notes: [] },
        undo: "`rm -r /var/lib/etcd/member`: the snapshot is as it was.",
        steps: steps.map((step): SeenStep => ({ ...step, seen: [] })),
      },
    ],
    seconds: [0, 1].map((end) => steps.reduce((sum, step) => sum + step.seconds[end]!, 0)) as [
      number,
      number,
    ],
  };
}
