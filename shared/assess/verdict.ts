/** The conclusion for a control plane node: one sentence, and the commands that come next. */
import { command, inLines, type Todo } from "../again.ts";
import { type Check, hasFailed } from "../checks/check.ts";
import { type CheckId, checkIdOf } from "../checks/kinds.ts";
import { shortName } from "../checks/print-checks.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { caIsNew, type StrangeCa } from "../facts/ca-copies.ts";
import {
  type Course,
  courseFrom,
  type LostNodes,
  type OldSaKey,
  partsForCluster,
  partsHere,
  todoOfPart1,
} from "../facts/course.ts";
import { HasMoved } from "../facts/issue-facts.ts";
import { caExpiryIfKubeletsAreSilent } from "../facts/leaders.ts";
import { damagedDataSteps } from "../facts/no-etcd-data.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { otherControlPlanes } from "../facts/other-control-planes.ts";
import { refuseDockershim } from "../facts/releases.ts";
import { lackingOfExternalCa } from "../facts/signed-elsewhere.ts";
import { attempt, Fail } from "../fail.ts";
import { renewedElsewhere } from "../pki/actions.ts";
import { day } from "../pki/certificate.ts";
import { CERTS, type Cert, isInternal } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import type { Deep, KeyBeside, NodeVerdict } from "./assessment.ts";
import { besideVerdict, deepVerdict, lostAndWay, lostVerdict } from "./keys-verdict.ts";

interface InputHere {
  partialFacts: PartialFacts;
  nodeName: string;
  /** Fail: this node's. Else sentences about others. */
  clock: Fail | readonly string[];
  lostKeys: Finding[];
  /** Expired CAs that only another CA can renew. */
  ofOthers: Finding[];
  damage: readonly Check[];
  /** The network plugin's program here has the old CA. */
  noNewPod: boolean;
  strange: StrangeCa | undefined;
  oldKey: OldSaKey;
  deep: Deep | undefined;
  besideKeys: readonly KeyBeside[];
  lost: LostNodes;
  /** Part 0's commands that are still to be typed here. */
  hold: readonly Todo[];
}

interface VerdictInput extends InputHere {
  damaged: boolean;
  /** Without those that are lost for good. */
  others: string[];
  expired: ReturnType<typeof expiredIn>;
  names: string[];
}

export function controlPlaneVerdict(here: InputHere): NodeVerdict {
  const { partialFacts, damage, lostKeys, lost } = here;
  const { cp } = partialFacts;
  const input: VerdictInput = {
    ...here,
    damaged: damage.some(hasFailed),
    others: cp
      ? otherControlPlanes(cp.cluster, { node: cp.node, without: lost.names }).map(({ name }) => name)
      : [],
    expired: expiredIn(damage),
    names: lostKeys.map(({ name }) => name),
  };
  for (const verdict of FIRST_THAT_APPLIES) {
    const found = verdict(input);
    if (found) return found;
  }
  return nothingDamaged(input);
}

/** Obstacles to the repair first, then lost keys, then what the CAs sign again. */
const FIRST_THAT_APPLIES: readonly ((input: VerdictInput) => NodeVerdict | undefined)[] = [
  obstacle,
  dockershim,
  wrongClock,
  externalCa,
  ofOthers,
  searched,
  foreignCa,
  keysLost,
  caEnded,
  oldCaHeld,
  strangeNamedAlone,
  strangeFolderAlone,
  signedAnew,
  newCa,
  ({ noNewPod }) => (noNewPod ? NO_NEW_POD : undefined),
];

function obstacle({ partialFacts, damaged, nodeName }: VerdictInput): NodeVerdict | undefined {
  const obstacle = partialFacts.obstacle ?? partialFacts.data?.damage;
  if (!obstacle) return undefined;
  return {
    verdict: `${damaged ? "the" : `${NOTHING_DAMAGED}. A`} repair cannot begin: ${obstacle.message}`,
    next:
      obstacle instanceof DamagedData
        ? damagedDataSteps(nodeName, obstacle)
        : [...(obstacle instanceof HasMoved ? [command("move")] : []), obstacle.hint],
  };
}

function dockershim({ partialFacts: { cp } }: VerdictInput): NodeVerdict | undefined {
  const docker = cp && attempt(() => refuseDockershim(cp));
  if (!(docker instanceof Fail)) return undefined;
  return { verdict: `the repair cannot begin: ${docker.message}`, next: [docker.hint] };
}

function wrongClock({ clock }: VerdictInput): NodeVerdict | undefined {
  if (!(clock instanceof Fail)) return undefined;
  return { verdict: `first the clock: ${clock.message}`, next: [clock.hint] };
}

function externalCa({ partialFacts: { cp } }: VerdictInput): NodeVerdict | undefined {
  const lacking = cp && lackingOfExternalCa(cp);
  if (!lacking) return undefined;
  const verdict = `the cluster's CA is external: its key was never on the control plane nodes. Get from that CA: ${lacking.files.join(", ")}`;
  return { verdict, next: lacking.steps };
}

/** Precedes all signing: a certificate of an expired CA is valid for nobody. */
function ofOthers({ ofOthers, hold }: VerdictInput): NodeVerdict | undefined {
  if (ofOthers.length === 0) return undefined;
  const files = ofOthers.map(({ paths: [path], cert }) => `${path} (${cert!.issuer})`);
  return {
    verdict: `a CA has expired that another CA has signed, and only that other CA can renew it: ${files.join(", ")}. The key of the expired CA is here, so what it has signed stays valid`,
    next: inLines([...hold, ...renewedElsewhere(ofOthers)]),
  };
}

function searched({
  deep,
  partialFacts,
  others,
  expired,
  lost,
  hold,
}: VerdictInput): NodeVerdict | undefined {
  return deep && deepVerdict(deep, partialFacts, { others, expired, leavesOut: lost.names.length > 0, hold });
}

function foreignCa({ strange, lostKeys, names, oldKey }: VerdictInput): NodeVerdict | undefined {
  if (!strange) return undefined;
  return {
    ...lostAndWay(lostKeys, oldKey),
    verdict: "the CA on this node is not the cluster's CA. No node trusts what it signs",
    next: inLines([
      { command: command("00-salvage --move-aside"), note: FOREIGN_NOTE },
      ...(strange.older || names.some((name) => name !== "ca")
        ? []
        : [{ ...todoOfPart1(), note: HANDED_OVER }]),
    ]),
  };
}

function courseOf(input: VerdictInput): Course {
  const { others, expired, names, oldKey, lost, damage } = input;
  const caEnded = silentSince(input) !== undefined || casToRenew(damage).some(({ name }) => name === "ca");
  return courseFrom({ others, expired, caEnded, lost: names, oldKey, leavesOut: lost.names.length > 0 });
}

function keysLost(input: VerdictInput): NodeVerdict | undefined {
  const { names, lostKeys, oldKey, hold, besideKeys } = input;
  if (names.length > 0 && names.every((name) => besideKeys.some((one) => one.name === name)))
    return besideVerdict(besideKeys, hold);
  if (names.length === 0) return undefined;
  return {
    ...lostAndWay(lostKeys, oldKey),
    ...lostVerdict(names, oldKey, hold),
    ...(names.every(isInternal) ? { course: courseOf(input) } : {}),
  };
}

const silentSince = ({ partialFacts: { cp } }: Pick<VerdictInput, "partialFacts">) =>
  cp && caExpiryIfKubeletsAreSilent(cp);

/** All files are valid; only running processes hold the expired CA. */
function caEnded(input: VerdictInput): NodeVerdict | undefined {
  const endedAt = silentSince(input);
  if (!endedAt || input.damage.some((one) => hasFailed(one) && one.id !== "ca-held")) return undefined;
  return {
    rung: 0,
    course: courseOf({ ...input, expired: "all" }),
    verdict: `the files of this node are well, but the CA's old certificate has expired (${day(endedAt)}), and no kubelet has renewed its Lease since. Processes that have that certificate in memory restart, and the workers join again`,
    next: inLines(partsHere()),
  };
}

/** The failed checks, if all of them are of this kind; none: another one has failed, or none at all. */
function failedAlone({ damage }: VerdictInput, kind: CheckId): Check[] {
  const failed = damage.filter(hasFailed);
  return failed.every(({ id }) => id === kind) ? failed : [];
}

/** Only if nothing else has failed: no part of the repair does this. */
function oldCaHeld(input: VerdictInput): NodeVerdict | undefined {
  return failedAlone(input, "ca-held").length > 0 ? OLD_CA_HELD : undefined;
}

/** Only if nothing else has failed: no part writes a file that only a flag of somebody's names. */
function strangeNamedAlone(input: VerdictInput): NodeVerdict | undefined {
  const failed = failedAlone(input, "named-key");
  if (failed.length === 0) return undefined;
  return {
    verdict:
      "the files of this node are well, but a flag of a static pod names a file whose key is not this cluster's",
    next: failed.flatMap(({ mend }) => mend ?? []),
  };
}

/** Only if nothing else has failed: nothing is missing, and nothing has to be signed. */
function strangeFolderAlone(input: VerdictInput): NodeVerdict | undefined {
  const [{ mend } = {}] = failedAlone(input, "usual-folder");
  if (!mend) return undefined;
  return {
    verdict:
      "the files of this node are well, but kubeadm's usual folder has keys that are not this cluster's: kubeadm without a configuration would sign with them",
    next: [mend],
  };
}

function signedAnew(input: VerdictInput): NodeVerdict | undefined {
  if (!input.damaged) return undefined;
  return {
    rung: 0,
    course: courseOf(input),
    verdict: `${broken(input.damage)} CAs and the service-account key are here: parts 1 and 2 make again what they have signed, and every token stays valid${renewal(input.damage)}`,
    next: inLines(partsHere()),
  };
}

/** "10 certificates have expired. The" */
function broken(damage: readonly Check[]): string {
  const failed = damage.filter(hasFailed);
  const all = (state: RegExp) => failed.filter((one) => state.test(one.state ?? ""));
  const words = [
    ...sentence(all(/^expired$/), "certificates have expired", "has expired"),
    ...sentence(all(/^(key |certificate )?missing$/), "files are missing", "is missing"),
  ];
  return words.length > 0 ? `${words.join(", and ")}. The` : "the";
}

/** A row for several files begins with their number. */
function sentence(rows: readonly Check[], several: string, one: string): string[] {
  if (rows.length === 0) return [];
  const count = rows.reduce((sum, { what }) => sum + (Number.parseInt(what, 10) || 1), 0);
  return count === 1 ? [`${shortName(rows[0]!)} ${one}`] : [`${count} ${several}`];
}

function casToRenew(damage: readonly Check[]): Cert[] {
  return CERTS.filter(
    (row) => row.shared && damage.some(({ id, state }) => id === checkIdOf(row.name) && state === "expired"),
  );
}

/** A CA whose key is here is renewed: all who trust that key keep working. */
function renewal(damage: readonly Check[]): string {
  const files = casToRenew(damage).map(({ file }) => `${file}.crt`);
  return files.length > 0
    ? `, and part 1 renews ${files.join(", ")} with the same key: what it has signed stays good`
    : "";
}

function newCa({ partialFacts: { cp }, lost, oldKey }: VerdictInput): NodeVerdict | undefined {
  if (!cp || !caIsNew(cp)) return undefined;
  return {
    verdict: "this node is repaired, with a new CA",
    next: inLines(partsForCluster()),
    // part 2 is safe to repeat, and takes a lost node out of etcd's members
    course: courseFrom(
      { lost: ["ca"], oldKey, leavesOut: lost.names.length > 0 },
      lost.controlPlanes.length > 0 ? "control-plane" : "open",
    ),
  };
}

/** Another control plane node may be damaged, or a lost one may have to be taken out. */
function nothingDamaged(input: VerdictInput): NodeVerdict {
  const { lost, others, oldKey } = input;
  const leavesOut = lost.controlPlanes.length > 0 && lost.silent.length === 0;
  const course = leavesOut
    ? courseFrom({ leavesOut, oldKey }, "control-plane")
    : others.length > 0 && courseOf(input);
  return {
    ...(course && { course }),
    verdict: NOTHING_DAMAGED,
    next: inLines([{ command: command("05-verify"), note: "looks at the whole cluster" }]),
  };
}

export const NO_NEW_POD: NodeVerdict = {
  verdict:
    "the files of this node are well, but no new pod gets a network here: the network plugin still has the old CA",
  next: inLines([
    {
      command: command("04-sa-tokens --only-system"),
      on: "a control plane node, after part 3",
      note: "restarts it, in order",
    },
  ]),
};

export const OLD_CA_HELD: NodeVerdict = {
  verdict:
    "the files of this node are well, but processes here still have the CA's old certificate in memory, and it has expired. Open connections continue, and no new connection works",
  next: inLines([{ command: command("renew-ca"), note: "restarts what holds it, one after the other" }]),
};

export const NOTHING_DAMAGED = "nothing is damaged on this node";

/** A stopped kubelet is no damage of its own: with an expired certificate it cannot start. */
function expiredIn(damage: readonly Check[]): "all" | "some" | "none" {
  const states = damage.flatMap((one) => (hasFailed(one) && one.id !== "ca-held" ? one.state : []));
  if (!states.includes("expired")) return "none";
  return states.every((state) => state === "expired" || state === "stopped") ? "all" : "some";
}

const FOREIGN_NOTE =
  "looks for the cluster's own CA. If it is nowhere: move ca.crt and ca.key away, then 00-assess again";
const HANDED_OVER =
  "only if part 1 made this CA on another control plane node, and hand-over brought it here";
