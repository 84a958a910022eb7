#!/usr/bin/env bun
/**
 * RUNBOOK-MORE "Only a snapshot is left": all control plane nodes are lost, and this new machine
 * becomes one of them. Makes etcd's data from a snapshot, or from the rest of lost members, and the
 * kubelet's files from the cluster's own configuration. Then parts 0 to 5 are as always. Changes no
 * source, and overwrites nothing.
 */
import { again } from "../shared/again.ts";
import { type EtcdData, readSnapshotData } from "../shared/etcd-data/data.ts";
import { isNameless, memberName } from "../shared/etcd-data/members.ts";
import { attempt, Fail, UsageError } from "../shared/fail.ts";
import { refuseNoMemory } from "../shared/files/file-system.ts";
import { exists, hostPath } from "../shared/files/files.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { readNode } from "../shared/node/node.ts";
import { newRescue } from "../shared/node/rescue-folder.ts";
import { kubeletFlags } from "../shared/node/started-with.ts";
import { saveForThisNode } from "../shared/node/words.ts";
import { typed } from "../shared/options.ts";
import * as content from "../shared/restore/content.ts";
import * as lost from "../shared/restore/lost-members-data.ts";
import { onlyMember } from "../shared/restore/new-member.ts";
import { newPlace, refuseOldAnswers } from "../shared/restore/new-place.ts";
import { refuseOpenData } from "../shared/restore/open-data.ts";
import { membersDataIn, sayDifferences } from "../shared/restore/several-members.ts";
import * as snapshots from "../shared/restore/snapshot-file.ts";
import { proveSnapshot } from "../shared/restore/value-witnesses.ts";
import { REVISION_BUMP, writeMember } from "../shared/restore/write-data.ts";
import { act, answerJson, done, mode, run, say, step } from "../shared/run.ts";

async function main() {
  const words = { allowPositionals: true, file: "trusted" } as const;
  const config = { options: OPTIONS, usage: USAGE, ...words };
  const { values, positionals } = begin("restore", config, lockNode);
  const as = asOf(values);
  const node = await readNode({ mayBeGone: true });
  const machine = { ...node, flags: await kubeletFlags(node.systemd) };
  refuseNoMemory("read etcd's data");
  const { source, found } = await step("S.1 Look at what is left", async () => {
    const source = await sourceOf(positionals, values);
    const found = content.contentFor(source.data, as, values.lost);
    content.sayContent(found, source.until);
    content.refuseOtherCa(found.cluster, values["ca-hash"]);
    return { source, found };
  });
  using _data = source.data;
  const place = await step("S.2 Look at this machine", () =>
    newPlace(found, machine, { address: values.address, dir: values["etcd-data"] }),
  );
  await step("S.3 Ask whether the old control plane answers", () =>
    refuseOldAnswers(found, values["lost-on"]),
  );
  await step(
    "S.4 Write the kubelet's files",
    () => content.writeKubeletFiles(found, place),
    "kubeadm init phase kubelet-start",
  );
  await step(
    "S.5 Write etcd's data",
    () => writeData(source, found, { ...place, caHash: values["ca-hash"] }),
    `etcdutl snapshot restore --bump-revision ${REVISION_BUMP} --mark-compacted`,
  );
  const left = next(place, found.cluster);
  if (values.json) answerJson(asData(source, found, { ...place, next: left }));
  done(left);
}

/** Dates are those of the content. */
function asData(
  { from, isExact, data, until }: Source,
  found: content.Content,
  { address, dir, next }: { address: string; dir: string; next: string },
) {
  const { cluster, node } = found;
  const asOf = (content.takenAt(found) ?? until).toISOString();
  return {
    ...{ isDryRun: mode.dryRun, from, isExact, asOf },
    ...{ revision: data.revision, keys: data.keyCount, warnings: data.warnings },
    ...{ cluster: cluster.name, kubernetes: cluster.kubernetesVersion },
    ...{ node: node.name, address, etcdData: dir, next },
  };
}

/** The data last; existing data is never overwritten. A run that was cut off begins again. */
async function writeData(
  source: Source,
  { cluster, node, data }: content.Content,
  { caHash, ...place }: Place & { caHash: string | undefined },
) {
  const named = data.members.filter((member) => !isNameless(member)).map(({ name }) => name);
  const controlPlanes = cluster.nodes.filter((one) => one.controlPlane).map(({ name }) => name);
  const members = [...new Set([...named, ...controlPlanes])];
  newRescue();
  // it shows every part which nodes are lost, and what proves keys
  saveForThisNode("restored", [source.from], { on: node.name, members, caHash, onDisk: true });
  for (const name of controlPlanes)
    if (name !== node.name) say(`${name}: lost, and left out by all later scripts`);
  const { dir, peerUrl } = place;
  const written = `${dir}/member: one member, ${node.name}, at ${peerUrl}`;
  await act("write", written, () => source.write(place));
}

function next(
  { old, address }: { old?: string | undefined; address: string },
  { certificatesDir, nodes }: content.Content["cluster"],
) {
  const moved = old && old !== address ? [`${MOVE} --moved ${old}=${address}`] : [];
  const hasKeys = exists(`${certificatesDir}/ca.key`);
  const isOne = nodes.filter((node) => node.controlPlane).length + moved.length < 2;
  if (hasKeys && isOne && exists("/etc/kubernetes/manifests/etcd.yaml"))
    return `${ASSESS}, else ${PARTS}`;
  return ["systemctl enable kubelet", ...(hasKeys ? [] : [UNPACK]), ...moved, PARTS].join(
    ", then ",
  );
}

/** Only the data was lost. */
const ASSESS =
  "./bunw scripts/00-assess.ts, then, if it names no damage, systemctl start kubelet and part 5";
const MOVE = "./bunw scripts/move.ts";
const PARTS = "parts 1 to 5 (./bunw scripts/plan.ts prints them)";
const UNPACK =
  "./bunw scripts/hand-over.ts unpack BUNDLE (without a bundle: part 1 with --new-cas)";

function asOf({ as }: Values): string {
  if (as) return as;
  throw new UsageError(
    "restore needs the name of the control plane node that this machine becomes",
    {
      hint: "add --as NODE, with the name that kubectl get nodes had",
    },
  );
}

interface Place {
  dir: string;
  peerUrl: string;
}

/** The source, its time, and how it is written here. */
interface Source {
  /** A snapshot's maker chooses its content. */
  from: "a snapshot" | "a member's disk";
  data: EtcdData;
  /** No acknowledged write that was on these disks is lost. A snapshot ends where it was taken. */
  isExact: boolean;
  until: Date;
  write(place: Place): Promise<void>;
}

async function sourceOf([file, ...more]: string[], values: Values): Promise<Source> {
  const { from, "give-up": keys } = values;
  if (keys.length > 0 && from.length === 0)
    throw new Fail("--give-up belongs to --from: a snapshot is taken whole", {
      hint: "./bunw scripts/restore.ts --help",
    });
  if (file && more.length === 0) {
    const snapshot = await ofSnapshot(typed(file), values);
    if (from.length === 0) return snapshot;
    snapshot.data[Symbol.dispose]();
    return ofMembers(from.map(typed), values, typed(file));
  }
  if (!file && from.length > 0) return ofMembers(from.map(typed), values);
  throw new UsageError("restore needs one snapshot, or --from with data directories, or both", {
    hint: "./bunw scripts/restore.ts --help",
  });
}

async function ofSnapshot(path: string, values: Values): Promise<Source> {
  const hasSum = await snapshots.checkSnapshotFile(path, {
    skipHashCheck: values["skip-hash-check"],
  });
  const data = readSnapshotData(hostPath(path));
  snapshots.refuseState(data, { path, disarm: values.disarm });
  const found = content.contentFor(data, asOf(values), values.lost);
  content.refuseOlderImage(found);
  const { values: count } = proveSnapshot(path, data);
  const sum = hasSum ? "its SHA-256 is right" : "without a SHA-256";
  say(`${path}: ${sum}, and each of its ${count} values is whole`);
  // a cluster that is restored twice is two clusters
  const token = `restored-${new Date().toISOString()}`;
  return {
    ...{ data, isExact: false, until: data.lastWrite, from: "a snapshot" },
    write: (place) =>
      writeMember(onlyMember({ name: found.node.name, token, ...place }), data, {
        ...place,
        from: path,
        bump: REVISION_BUMP,
      }),
  };
}

function ofMembers(dirs: readonly string[], values: Values, snapshot?: string): Source {
  refuseOpenData(dirs);
  const all = membersDataIn(dirs, snapshot, values["give-up"]);
  const choice = lost.chooseData(all);
  const { chosen, isQuorum } = choice;
  const data = chosen.open();
  const found = attempt(() => content.contentFor(data, asOf(values), values.lost), undefined);
  const until = found && content.takenAt(found);
  say(lost.wayInWords(chosen, { until, snapshot: snapshot && hostPath(snapshot) }));
  lost.sayChosen(all, choice);
  sayDifferences(all);
  content.refuseExternal(data);
  const name = memberName(chosen.own);
  if (name !== asOf(values))
    throw new Fail(`The data is that of "${name}", and it continues under this name`, {
      hint: `type, and this machine becomes "${name}": ${again({ as: name })}`,
    });
  return {
    ...{ data, isExact: lost.isWhole(chosen.last), until: data.lastWrite, from: "a member's disk" },
    write: (place) =>
      lost.writeAlone(chosen, { ...place, bump: isQuorum ? 0 : REVISION_BUMP }, data),
  };
}

const USAGE = `Usage:
    ./bunw scripts/restore.ts SNAPSHOT --as NODE [--lost NODE,…] [--lost-on NODE,…]
                              [--ca-hash sha256:HASH] [--address IP] [--skip-hash-check] [--disarm]
                              [--etcd-data DIR] [--dry-run] [--json]
    ./bunw scripts/restore.ts [SNAPSHOT] --from DIR,… --as NODE [--lost NODE,…] [--lost-on NODE,…]
                              [--address IP] [--etcd-data DIR] [--give-up KEY,…] [--dry-run]
                              [--json]

Use it if all control plane nodes are lost. It makes this machine, with the cluster's kubelet,
kubeadm and container runtime, one of them. It writes etcd's data with one member, and the missing
files of the kubelet. It first says what the data has, and from when. It refuses while the old
control plane, or something that may be it, answers. Then come the keys (hand-over.ts unpack), and
parts 1 to 5.

SNAPSHOT, such as snapshot.db, is the file of etcdctl snapshot save, or of hand-over.ts pack
--with-etcd, which hand-over.ts snapshot opens. Its revision is raised by 1,000,000,000, so that
living clients list all objects again.

Options:
    --as NODE         The name of the control plane node that this machine becomes. Workers, volumes
                      and certificates know it by that name.
    --from DIRS       Data directories of lost members, from their disks or copies of them, such as
                      /mnt/var/lib/etcd. The one with the newest log is used. With those of more
                      than half of the members no acknowledged write is lost: better than any
                      snapshot. With fewer, the revision is raised, too. Damaged data is rebuilt
                      from an older tree, or SNAPSHOT, and the log. The first line says whether the
                      result is exact.
    --give-up KEYS    Give up keys whose values are damaged, and nothing has them whole: exactly
                      those that the refusal names. The whole key goes. The result is as of then.
    --lost NODES      The other control plane nodes, if the data does not name them: a snapshot of
                      etcd 3.5 has no names of members that have joined.
    --ca-hash HASH    Refuse data that does not name this CA: its fingerprint, as pack printed it.
                      If you restore without it, unpack needs it later, for a bundle for recipients.
    --address IP      The node's address, if this machine has several.
    --lost-on NODES   Control plane nodes that you have looked at: another machine answers at their
                      address.
    --skip-hash-check Restore although SNAPSHOT has no sum: it is a copy of etcd's member/snap/db.
    --disarm          Do not take over etcd's alarms (NOSPACE, CORRUPT) into the new data.
    --etcd-data DIR   The place for etcd's data (default: where kubeadm's configuration has it).
    --json            Print for programs what comes back, and what comes next, at the end.`;

const OPTIONS = {
  as: { type: "string" },
  from: { type: "string", list: true, path: "trusted" },
  "ca-hash": { type: "string" },
  address: { type: "string" },
  lost: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  "skip-hash-check": { type: "boolean" },
  disarm: { type: "boolean" },
  "etcd-data": { type: "string", path: "trusted" },
  "give-up": { type: "string", list: true },
  "dry-run": { type: "boolean" },
  json: { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
