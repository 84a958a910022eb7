/**
 * The renewals on this node: checks before anything changes, and the files that get the renewed certificates:
 * PEM files and kubeconfigs that the kubelet and the static pods read. Old files are first copied aside, and
 * an undo takes them from there.
 *
 * A worker gets the cluster's renewed CA without a secret: the key that it trusts has signed the certificate,
 * which proves it. So it comes from the files that the cluster gives its pods here, cluster-info, or a file.
 */
import { clusterInfo } from "../api/cluster-trust.ts";
import { KubeApi } from "../api/kube-api.ts";
import { IN_PODS, readEvidence } from "../facts/evidence.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attemptLater, Fail, Refused } from "../fail.ts";
import { refuseFixed } from "../files/file-system.ts";
import { replaceFiles } from "../files/file-tree.ts";
import { exists, readText, stat } from "../files/files.ts";
import { contentPath } from "../files/root.ts";
import { commandOf, hostFiles, hostPathOf } from "../manifests/command.ts";
import { podsOnDisk } from "../manifests/on-disk.ts";
import { clientText } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { versionsAside } from "../node/rescue-folder.ts";
import { type CertInfo, certInfo, day, infosIn, isValidNow } from "../pki/certificate.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { caText, examine, pkiFindings, wholePki } from "../pki/examine.ts";
import { caIn, KUBECONFIGS, readKubeconfig } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";
import { linesThatFind } from "../shell-line.ts";
import { kubeletsCa } from "./ca-readers.ts";
import { casInUse } from "./cas-in-use.ts";
import {
  asBrought,
  CA_NAMES,
  type CaName,
  type Candidate,
  type Renewal,
  renewalOf,
  renewedText,
  successorOf,
  unlikeOld,
} from "./renewal.ts";

/**
 * Without that of an etcd that kubeadm did not make. `asked`: by name. Errors: Refused if it is among them.
 */
export function casToRenew(
  { facts: { externalEtcd } }: Pick<ControlPlaneNode, "facts">,
  names: readonly CaName[],
  asked: readonly string[],
): CaName[] {
  if (!externalEtcd) return [...names];
  const { ca } = externalEtcd;
  if (asked.includes("etcd-ca"))
    throw new Refused(`"${ca}" is the CA of an etcd that kubeadm did not make: its maker renews it`, {
      unchanged: true,
      hint: `type where its key is: openssl x509 -in ca.crt -signkey ca.key -days 3650 -out new.crt. Bring that to each host of etcd, and to ${ca} on each control plane node. Restart etcd's members, then the API servers, one after the other`,
    });
  return names.filter((name) => name !== "etcd-ca");
}

/** Whether one of these CAs has expired on this node's disk: no server of it is trusted any more. */
export function haveExpired({ facts }: Pick<ControlPlaneNode, "facts">, names: readonly CaName[]): boolean {
  return names.some((name) => examine(certRow(name), facts).state === "expired");
}

/**
 * Errors: Refused if a certificate, a kubeconfig or sa.key here is not valid: a repair comes first. What is missing may
 * be stored elsewhere, but not where a static pod reads it: that one does not start again, and what only its process
 * still knows ends with it.
 */
export function refuseUnsound({ facts, node }: Pick<ControlPlaneNode, "facts" | "node">) {
  const all = pkiFindings(wholePki(facts), facts);
  const read = new Set([...podsOnDisk({ node }).values()].flatMap(hostFiles).map(({ path }) => path));
  const isAway = ({ row, state, paths }: (typeof all)[number]) =>
    (state === "missing" && !paths.some((path) => read.has(path))) ||
    (state === "key missing" && row !== undefined && "file" in row && row.ca === undefined);
  const broken = all.filter((one) => one.state !== "ok" && !isAway(one));
  if (broken.length === 0) return;
  const names = broken.map(({ paths, state }) => `"${paths[0]}" (${state})`).join(", ");
  throw new Refused(`Not all files here are valid: ${names}`, {
    unchanged: true,
    hint: "repair that first: ./bunw scripts/00-assess.ts",
  });
}

/**
 * One for each CA on this node. Without `api`, the cluster's certificates in use are unknown. Errors: as
 * `renewalOf`.
 */
export async function renewalsHere(
  { facts, node }: Pick<ControlPlaneNode, "facts" | "node">,
  api: KubeApi | undefined,
  { only, from, undo }: { only: readonly CaName[]; from?: string | undefined; undo?: boolean | undefined },
): Promise<Renewal[]> {
  const pathOf = (name: CaName) => certPath(name, facts.certificatesDir);
  const present = only.filter((name) => exists(pathOf(name)));
  if (undo) return present.map((name) => wayBack(name, pathOf(name), caText(name, facts.certificatesDir)));
  const candidates: Partial<Record<CaName, Candidate[]>> = api ? await casInUse(api) : {};
  const leaves = [clientText(node.kubelet)].filter(Boolean);
  return present.map((name) =>
    renewalOf(name, facts, {
      candidates: candidates[name] ?? [],
      brought: from === undefined ? undefined : certificateInFolder(name, from),
      leaves,
    }),
  );
}

export function inWords({ now, next, note }: Renewal): string {
  return now.pem === next.pem
    ? note
    : `until ${day(now.notAfter)}; then until ${day(next.notAfter)} (${note})`;
}

/** The operator's file for this CA; undefined if the folder has none. */
export function certificateInFolder(name: CaName, folder: string): Candidate | undefined {
  const file = `${folder}/${certRow(name).file}.crt`;
  const pem = readText(file);
  return pem === undefined ? undefined : { pem, from: file };
}

/** Bytes. No CA's file or kubeconfig is as long. */
const LARGEST = 256 * 1024;

/**
 * Each once: the CAs' own, the kubeconfigs, the kubelet's two, and each file of the host that a flag of a static pod
 * names. Links are resolved.
 */
export function caFiles(node: Node, certificatesDir: string): string[] {
  const { kubeconfig, clientCaFile } = node.kubelet;
  const named = [...podsOnDisk({ node }).values()].flatMap((pod) =>
    commandOf(pod).flatMap((word) => {
      const [, value] = /^(?:--[\w-]+=)?(\/.+)$/.exec(word) ?? [];
      return value === undefined ? [] : (hostPathOf(pod, value) ?? []);
    }),
  );
  const own = CA_NAMES.map((name) => certPath(name, certificatesDir));
  const all = [...own, clientCaFile, kubeconfig, ...KUBECONFIGS.map(({ path }) => path), ...named];
  return [...new Set(all.map(contentPath))].filter((path) => {
    const info = stat(path);
    return info?.kind === "file" && info.size <= LARGEST;
  });
}

/** All files are on disk beside their paths before the first one changes. Returns the paths written. */
export function place(renewals: readonly Renewal[], paths: readonly string[], asideDir: string): string[] {
  const changes = paths.flatMap((path) => {
    const text = readText(path)!;
    const content = renewals.reduce((left, { next }) => renewedText(left, next), text);
    return content === text ? [] : [{ path, content, note: "the renewed certificate in it" }];
  });
  refuseFixed(changes.map(({ path }) => path));
  return replaceFiles(changes, asideDir);
}

/** Renews in reverse: the first CA of `pem`, which this file has, gets its old certificate. */
function wayBack(name: CaName, path: string, pem = ""): Renewal {
  const now = certInfo(pem);
  const next = certificateBefore(now, path);
  const note = next ? "the old one" : "unchanged: no valid older one is here";
  return { name, path, now, next: next ?? now, note };
}

/** The last to expire, if still valid, of the copies in all rescue folders. */
function certificateBefore(now: Readonly<CertInfo>, path: string): Readonly<CertInfo> | undefined {
  const all = versionsAside(contentPath(path)).flatMap(({ text }) => infosIn(text));
  const older = all.filter(
    (info) => info.notAfter < now.notAfter && isValidNow(info) && unlikeOld(now.pem, info.pem).length === 0,
  );
  return older.sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())[0];
}

/** The old certificate, replaced now or before; undefined if none is known here. */
export function olderOf({ now, next, path }: Renewal): Readonly<CertInfo> | undefined {
  return now.pem === next.pem ? certificateBefore(now, path) : now;
}

/** They find the part with its serial number, as it is, and in base64, as in a kubeconfig. */
export function linesForCopies(older: readonly Readonly<CertInfo>[]) {
  const parts = older.map(({ pem }) => pem.slice(48, 72));
  return linesThatFind(parts.flatMap((part) => [part, Buffer.from(part).toString("base64")]));
}

export function wayBackOfWorker(node: Node): Renewal {
  const { clientCaFile } = node.kubelet;
  return wayBack("ca", clientCaFile, kubeletsCa(node, readText(clientCaFile))?.pem);
}

/**
 * The CA certificate in its kubelet's trust, and its successor. Errors: Refused if it has expired: then the
 * kubelet's own has, too, and it joins (part 3); Fail if there is no kubelet.conf.
 */
export async function renewalOfWorker(node: Node, brought?: Candidate): Promise<Renewal> {
  const { kubeconfig, clientCaFile } = node.kubelet;
  const conf = readKubeconfig(kubeconfig);
  const now = kubeletsCa(node, conf?.caPem);
  if (!conf || !now)
    throw new Fail(`"${kubeconfig}" names no CA`, {
      hint: "./bunw scripts/00-assess.ts says what is lost here",
    });
  if (!isValidNow(now))
    throw new Refused(
      `The CA in "${kubeconfig}" has expired (${day(now.notAfter)}): this worker has to join`,
      {
        unchanged: true,
        hint: "type first on the control plane nodes: ./bunw scripts/00-assess.ts; part 3 gives this worker its line",
      },
    );
  const renewal = (pem: string, note: string): Renewal => ({
    ...{ name: "ca", path: clientCaFile, now, next: certInfo(pem), note },
  });
  if (brought) return renewal(...asBrought(now, brought));
  const next =
    successorOf(now, inPods(node)) ?? successorOf(now, await inClusterInfo(conf.server, conf.caPem));
  if (next) return renewal(next.pem, next.from);
  return renewal(now.pem, `unchanged, until ${day(now.notAfter)}: the cluster has none that expires later`);
}

function inPods(node: Node): Candidate[] {
  const { texts } = readEvidence({ data: undefined, node, certificatesDir: "" });
  return texts.flatMap(({ from, text }) => (from === IN_PODS ? { pem: text, from } : []));
}

/** Public, unless a cluster has forbidden it. */
async function inClusterInfo(server: string, ca: string): Promise<Candidate[]> {
  const from = `cluster-info at ${server}`;
  const found = await attemptLater(() => clusterInfo(new KubeApi({ server, ca })));
  if (!(found instanceof Fail)) return [{ pem: caIn(found ?? "") ?? "", from }];
  say(`${from}: ${found.message}`);
  return [];
}

export function asKubelet(node: Node): KubeApi {
  return KubeApi.from(readKubeconfig(node.kubelet.kubeconfig)!);
}
