/**
 * Several folders hold etcd's data: which is this node's? The data itself has to prove it: a member with this node's address, and the CA
 * that signed this kubelet's certificate. Of several states of one member the last one counts.
 */
import { dirname } from "node:path";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import type { ConfigMap } from "../k8s/objects.ts";
import { readObject } from "../k8s/stored.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { retyped } from "../options.ts";
import { endpointHost } from "../pki/addresses.ts";
import { certificatesIn, signedBy } from "../pki/certificate.ts";
import { type EtcdFolders, keyOf, readFolders } from "./etcd-folders.ts";
import type { NamedFolders } from "./etcd-names.ts";

export interface EtcdPlace extends EtcdFolders {
  /** Why it is this one, for the operator; "": nothing else was in question. */
  why: string;
}

/** `named`: what names a folder. Errors: Fail where nothing proves one, with the line to type for each. */
export function proved(candidates: readonly EtcdFolders[], named: readonly NamedFolders[], node: Node | undefined): EtcdPlace {
  const all = candidates.map((folders) => judge(folders, named, node));
  const one = theOne(all, ({ dir }) => named.some((other) => keyOf(other.dir) === keyOf(dir)));
  if (!one)
    throw new Fail(`Several folders hold etcd's data, and nothing proves which is this cluster's: ${all.map(shown).join("; ")}`, {
      hint: `name the right one: ${all.map(({ folders }) => retyped(optionOf(folders.dir))).join(" or ")}`,
    });
  const others = all.filter((other) => other !== one);
  return { ...one.folders, why: `${one.words}; not ${others.map(shown).join("; not ")}` };
}

/** The one whose data proves it; of several states of one member, the last. Undefined also where another is what etcd is started from. */
function theOne(all: Judged[], isNamed: (folders: EtcdFolders) => boolean): Judged | undefined {
  const own = all.flatMap((one) => (one.own && one.ids && one.ca !== "no" ? [{ ...one, ids: one.ids, from: one }] : []));
  const sure = own.some(({ ca }) => ca === "yes") ? own.filter(({ ca }) => ca === "yes") : own;
  const newest = sure.toSorted((a, b) => b.ids.revision - a.ids.revision)[0];
  if (!newest || sure.some(({ ids }) => ids.same !== newest.ids.same || ids.written > newest.ids.written)) return undefined;
  if (isNamed(newest.folders)) return newest.from;
  const isRival = all.some((one) => isNamed(one.folders) && (!one.ids || sure.some(({ from }) => from === one)));
  return newest.ca === "yes" && !isRival ? newest.from : undefined;
}

interface Judged {
  folders: EtcdFolders;
  /** Undefined: it cannot be read. */
  ids: { same: string; revision: number; written: Date } | undefined;
  /** Its member has an address of this machine. */
  own: boolean;
  /** Whether the CA in it signed this kubelet's certificate. */
  ca: "yes" | "no" | "unknown";
  /** For the operator. */
  words: string;
}

function judge(folders: EtcdFolders, named: readonly NamedFolders[], node: Node | undefined): Judged {
  const by = named.filter((one) => keyOf(one.dir) === keyOf(folders.dir)).map((one) => `named by ${one.by}`);
  const seen = attempt(() => {
    using data = readFolders(folders);
    return { ids: idsOf(data), member: ownMember(data, node), ca: caOf(data, node) };
  });
  if (seen instanceof Fail)
    return { folders, ids: undefined, own: false, ca: "unknown", words: [...by, `cannot be read: ${seen.message}`].join(", ") };
  const { ids, member, ca } = seen;
  const words = [
    ...by,
    member ? `its member ${member} has this node's address` : "its member has another address",
    CA_WORDS[ca],
    `revision ${ids.revision}, last write ${ids.written.toISOString()}`,
  ];
  return { folders, ids, own: member !== undefined, ca, words: words.join(", ") };
}

const CA_WORDS = {
  yes: "its CA signed this kubelet's certificate",
  no: "its CA did not sign this kubelet's certificate",
  unknown: "no CA to compare",
};

/** As an operator types it. */
export function optionOf(dir: string): string {
  return `--etcd-data ${/^[\w@%+=:,./-]+$/.test(dir) ? dir : `'${dir.replaceAll("'", `'\\''`)}'`}`;
}

function shown({ folders, words }: Judged): string {
  return `"${folders.dir}" (${words})`;
}

function idsOf({ clusterId, memberId, revision, lastWrite }: EtcdData): NonNullable<Judged["ids"]> {
  return { same: `${clusterId} ${memberId}`, revision, written: lastWrite };
}

function ownMember({ members, memberId }: EtcdData, node: Node | undefined): string | undefined {
  const own = members.find(({ id }) => id === memberId);
  const hosts = (own?.peerURLs ?? []).filter((url) => URL.canParse(url)).map((url) => endpointHost(new URL(url).host));
  return hosts.some((host) => node?.addresses.includes(host)) ? own?.name || own?.id : undefined;
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
