/**
 * Several folders hold etcd's data: which is this node's? The data itself has to prove it: a member with this node's address, and the CA
 * that signed this kubelet's certificate. Of several that do, the one that etcd is started from: the others were left behind by a restore.
 * Where nothing names one, the last state of one member counts. The ids do not tell a restored member from the one before: they derive from
 * its URL.
 */
import { dirname } from "node:path";
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import type { ConfigMap } from "../k8s/objects.ts";
import { readObject } from "../k8s/stored.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { certificatesIn, signedBy } from "../pki/certificate.ts";
import { retyped } from "../retyped.ts";
import { shell } from "../shell-line.ts";
import { type EtcdFolders, keyOf, readFolders } from "./etcd-folders.ts";
import type { NamedFolders } from "./etcd-names.ts";
import { isHere, ownMember } from "./own-member.ts";

export interface EtcdPlace extends EtcdFolders {
  /** Why it is this one, for the operator; "": nothing else was in question. */
  why: string;
}

/** `named`: what names a folder. Errors: Fail where nothing proves one, with the line to type for each. */
export function proved(candidates: readonly EtcdFolders[], named: readonly NamedFolders[], node: Node | undefined): EtcdPlace {
  const all = candidates.map((folders) => judge(folders, named, node));
  const one = theOne(all);
  if (!one)
    throw new Fail(`Several folders hold etcd's data, and nothing proves which is this cluster's: ${all.map(shown).join("; ")}`, {
      hint: `name the right one: ${all.map(({ folders }) => retyped({ "etcd-data": folders.dir })).join(" or ")}`,
    });
  const others = all.filter((other) => other !== one).map((other) => `${apart(other, one)} (${other.words})`);
  return { ...one.folders, why: [one.starts ? `etcd is started from it (${one.words})` : one.words, ...others].join("; ") };
}

/** What the other one is beside the one that counts, for the operator. */
function apart({ folders, ids }: Judged, one: Judged): string {
  if (!one.starts || !ids || !one.ids || ids.same === one.ids.same) return `not "${folders.dir}"`;
  return `"${folders.dir}" is of another member${ids.written < one.ids.written ? ", an older one" : ""}`;
}

/** The one whose data proves it. Undefined where several do, and none of them is named, or more than one. */
function theOne(all: Judged[]): Judged | undefined {
  const own = all.filter(isOwn);
  const sure = own.some(({ ca }) => ca === "yes") ? own.filter(({ ca }) => ca === "yes") : own;
  const named = all.filter((one) => one.named && (!one.ids || sure.some((other) => other === one)));
  const only = named.length === 1 ? sure.find((one) => one === named[0]) : undefined;
  if (only && sure.every((other) => leaves(only, other))) return only;
  const newest = sure.toSorted((a, b) => b.ids.revision - a.ids.revision)[0];
  if (!newest || sure.some(({ ids }) => ids.same !== newest.ids.same || ids.written > newest.ids.written)) return undefined;
  return newest.named || (newest.ca === "yes" && named.length === 0) ? newest : undefined;
}

/** Whether the one that is named was in use after the other: it has the last write, or etcd is started from it as another member. */
function leaves(only: Readable, { ids }: Readable): boolean {
  if (only.starts && ids.same !== only.ids.same) return true;
  const later = only.ids.written.getTime() - ids.written.getTime();
  return later > 0 || (later === 0 && only.ids.revision >= ids.revision);
}

type Readable = Judged & { ids: NonNullable<Judged["ids"]> };

function isOwn(one: Judged): one is Readable {
  return one.own && one.ids !== undefined && one.ca !== "no";
}

interface Judged {
  folders: EtcdFolders;
  /** Whether anything names it, and whether etcd is started from it. */
  named: boolean;
  starts: boolean;
  /** Undefined: it cannot be read. */
  ids: { same: string; revision: number; written: Date } | undefined;
  /** Its member is this machine's. */
  own: boolean;
  /** Whether the CA in it signed this kubelet's certificate. */
  ca: "yes" | "no" | "unknown";
  /** For the operator. */
  words: string;
}

function judge(folders: EtcdFolders, named: readonly NamedFolders[], node: Node | undefined): Judged {
  const names = named.filter((one) => keyOf(one.dir) === keyOf(folders.dir));
  const by = names.map((one) => `named by ${one.by}`);
  const known = { folders, named: names.length > 0, starts: names.some((one) => one.starts) };
  const addresses = node?.addresses ?? [];
  const seen = attempt(() => {
    using data = readFolders(folders);
    return { ids: idsOf(data), member: ownMember(data, addresses), ca: caOf(data, node) };
  });
  if (seen instanceof Fail)
    return { ...known, ids: undefined, own: false, ca: "unknown", words: [...by, `cannot be read: ${seen.message}`].join(", ") };
  const { ids, member, ca } = seen;
  const words = [...by, memberWords(member, addresses), CA_WORDS[ca], `revision ${ids.revision}, last write ${ids.written.toISOString()}`];
  return { ...known, ids, own: member !== undefined, ca, words: words.join(", ") };
}

function memberWords(member: Member | undefined, addresses: readonly string[]): string {
  if (!member) return "its member has another address";
  const name = member.name || member.id;
  if (isHere(member, addresses)) return `its member ${name} has this node's address`;
  return `its only member ${name} is at localhost, as a restore without --initial-cluster leaves it`;
}

const CA_WORDS = {
  yes: "its CA signed this kubelet's certificate",
  no: "its CA did not sign this kubelet's certificate",
  unknown: "no CA to compare",
};

/** As an operator types it. */
export function optionOf(dir: string): string {
  return shell`--etcd-data ${dir}`;
}

function shown({ folders, words }: Judged): string {
  return `"${folders.dir}" (${words})`;
}

function idsOf({ clusterId, memberId, revision, lastWrite }: EtcdData): NonNullable<Judged["ids"]> {
  return { same: `${clusterId} ${memberId}`, revision, written: lastWrite };
}

/** A kubelet's certificate is signed by the CA of the cluster that it is in. Data without a cluster (of a new etcd) is nobody's. */
function caOf(data: EtcdData, node: Node | undefined): Judged["ca"] {
  const stored = attempt(() => readObject<ConfigMap>(data, "configmaps/kube-system/kube-root-ca.crt")?.data?.["ca.crt"]);
  const pems = node ? kubeletsCertificates(node) : [];
  if (stored === undefined) return "no";
  if (stored instanceof Fail || pems.length === 0) return "unknown";
  const signed = certificatesIn(stored).some((ca) => pems.some((pem) => attempt(() => signedBy(pem, ca)) === true));
  return signed ? "yes" : "no";
}

/** Today's, and the one from before this repair. */
function kubeletsCertificates({ kubelet }: Node): string[] {
  const rescue = rescueFolders().find((one) => exists(rescuedEtcd(one)));
  const before = rescue ? `${rescue.dir}/before${dirname(kubelet.clientPem)}` : undefined;
  const saved = before ? list(before).filter((name) => /^kubelet-client-\d.*\.pem$/.test(name)) : [];
  return [kubelet.clientPem, ...saved.map((name) => `${before}/${name}`)].flatMap((path) => {
    const pem = attempt(() => readText(path));
    return pem && !(pem instanceof Fail) ? [pem] : [];
  });
}
