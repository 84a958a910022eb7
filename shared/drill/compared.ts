/**
 * Compares a control plane node's files and served certificates with those that the repair has made in
 * memory, field by field: no two are equal byte by byte, as a new certificate has another key, other dates
 * and another CA. A field is a list whose order does not count. No key is in it.
 */

import { dirname } from "node:path";
import { command } from "../again.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt } from "../fail.ts";
import { exists, list } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { manifestPath, podsOnDisk, readManifest } from "../manifests/on-disk.ts";
import { manifestLines, signedDifferences } from "../manifests/repair-changes.ts";
import { infoOf } from "../pki/certificate.ts";
import { certPath, certsOf, keyPath, SERVICE_ACCOUNT_KEYS } from "../pki/certs.ts";
import {
  clusterServer,
  KUBECONFIGS,
  kubeconfigRow,
  localServer,
  readKubeconfig,
} from "../pki/kubeconfigs.ts";
import { servedPem } from "../pki/served.ts";

export type Fields = Record<string, readonly string[]>;

/** A file and its fields; for a CA or a key only that it is there. */
interface SeenFile {
  is: "CA" | "certificate" | "key" | "kubeconfig" | "manifest";
  fields: Fields;
}

export interface ComparedFile extends Pick<SeenFile, "is"> {
  path: string;
  /** Its fields now, and as the repair would make it; unset: it is not here, or would not be made. */
  here?: Fields;
  back?: Fields;
  /** `-names x`: the repair would omit that name. */
  differences: string[];
  /** Differences that do no harm, in words. */
  note?: string;
}

export interface ComparedServer {
  /** "kube-apiserver, port 6443" */
  server: string;
  /** The certificate's file. */
  path: string;
  differences: string[];
}

const NOT_MADE = "-the file";

/** Files on disk or made in memory: path → content. */
export function filesOf(cp: ControlPlaneNode): Map<string, SeenFile> {
  const pki = cp.facts.certificatesDir;
  const { kubeconfig, clientPem } = cp.node.kubelet;
  const found = new Map<string, SeenFile>();
  const add = (is: SeenFile["is"], path: string, fields: Fields | undefined) =>
    fields && found.set(path, { is, fields });
  const present = (path: string) => (exists(path) ? {} : undefined);
  for (const row of certsOf(cp.facts)) {
    const [cert, key] = [certPath(row, pki), keyPath(row, pki)];
    if (row.ca) add("certificate", cert, certificateFields(readable(cert)));
    else add("CA", cert, present(cert));
    add("key", key, present(key));
  }
  for (const key of ["key", "pub"].map((end) => `${pki}/${SERVICE_ACCOUNT_KEYS.file}.${end}`))
    add("key", key, present(key));
  for (const { name, path } of KUBECONFIGS)
    if (name !== "kubelet") add("kubeconfig", path, kubeconfigFields(path));
  // in memory the link still has the old target: take the newest dated file
  const newest = list(dirname(clientPem)).findLast((name) => /^kubelet-client-\d/.test(name));
  const own = readable(clientPem) || readable(`${dirname(clientPem)}/${newest}`);
  add("kubeconfig", kubeconfig, kubeconfigFields(kubeconfig, own));
  add("certificate", clientPem, certificateFields(own));
  for (const key of podsOnDisk(cp).keys()) {
    const [namespace = "", name = ""] = key.split("/");
    const path = manifestPath(cp, name, namespace);
    const manifest = attempt(() => readManifest(path), undefined);
    add("manifest", path, manifest && { lines: manifestLines(manifest) });
  }
  return found;
}

/** Subject, names, usages and kind of key; undefined if it is no certificate. */
function certificateFields(pem: string | undefined): Fields | undefined {
  const info = infoOf(pem);
  if (!info) return undefined;
  const { subject, sans, usages, algorithm } = info;
  return { subject: subject.split(", "), names: [...sans.dns, ...sans.ips], usages, key: [algorithm] };
}

/**
 * Server and user: the subject's CN is the user, its O the groups. `clientPem`: for a kubelet, whose
 * certificate is a file.
 */
function kubeconfigFields(path: string, clientPem?: string): Fields | undefined {
  const config = attempt(() => readKubeconfig(path), undefined);
  const info = infoOf(clientPem ?? config?.clientCertPem);
  const rights = info?.o.map((group) => `O=${group}`) ?? [];
  return config && { server: [config.server], user: info ? [`CN=${info.cn}`] : [], rights };
}

/** `-names x` is in `here` only, `+names x` in `back` only. A manifest's lines stand alone. */
export function fieldDifferences(here: Fields, back: Fields): string[] {
  return Object.keys({ ...here, ...back }).flatMap((field) => {
    const named = (of: Fields) =>
      (of[field] ?? []).map((value) => (field === "lines" ? value : `${field} ${value}`));
    return signedDifferences(named(back), named(here));
  });
}

type Files = ReadonlyMap<string, SeenFile>;

/**
 * Each file once, sorted by path. A file that the repair adds is no loss, such as a kubeconfig that was
 * removed here.
 */
export function compareFiles(here: Files, back: Files, cp: ControlPlaneNode): ComparedFile[] {
  return [...new Set([...here.keys(), ...back.keys()])].sort().map((path) => {
    const [has, gets] = [here.get(path), back.get(path)];
    const all = has && gets ? fieldDifferences(has.fields, gets.fields) : has ? [NOT_MADE] : [];
    const note = harmless(path, all, cp);
    return {
      ...{
        path,
        is: (has ?? gets)!.is,
        ...(has && { here: has.fields }),
        ...(gets && { back: gets.fields }),
      },
      ...{ differences: note ? [] : all, ...(note && { note }) },
    };
  });
}

const ADMINS = ["O=system:masters", "O=kubeadm:cluster-admins"];

/**
 * `kubeadm certs renew` keeps the form of an earlier version; part 2 writes that of this version, and either
 * is right. A kubelet's first certificate has kubeadm's kind of key, later ones the kubelet's.
 */
function harmless(
  path: string,
  differences: readonly string[],
  { facts, node }: ControlPlaneNode,
): string | undefined {
  const areAll = (isOne: (difference: string) => boolean) =>
    differences.length > 0 && differences.every(isOne);
  if (path === kubeconfigRow("super-admin").path && differences.includes(NOT_MADE))
    return `only if asked for: ${command("02-control-plane --super-admin")}`;
  if (path === node.kubelet.clientPem && areAll((difference) => /^[-+]key /.test(difference)))
    return `as the kubelet renews it: ${differences.join(", ")}`;
  const servers = [...ADMINS, clusterServer(facts), localServer(facts)];
  if (areAll((difference) => servers.includes(difference.replace(/^[-+]\w+ /, ""))))
    return `as kubeadm ${facts.kubernetesVersion} writes it: ${differences.join(", ")}`;
  return undefined;
}

/**
 * `back`: files that the repair has made. A server that does not answer is a difference: on a healthy node
 * all answer. etcd's ports are kubeadm's (app/constants).
 */
export async function compareServers({ facts }: ControlPlaneNode, back: Files): Promise<ComparedServer[]> {
  const compared = async (name: string, row: string, port: number, host = facts.advertiseAddress) => {
    const path = certPath(row, facts.certificatesDir);
    const [shown] = await Promise.allSettled([servedPem(host, port)]);
    const fields = shown.status === "fulfilled" ? certificateFields(shown.value) : undefined;
    const made = back.get(path)?.fields;
    const why = shown.status === "rejected" ? String(shown.reason) : "it shows no certificate";
    const differences = fields && made ? fieldDifferences(fields, made) : [NOT_MADE];
    return {
      ...{ server: `${name}, port ${port}`, path },
      differences: fields ? differences : [`-no answer: ${why}`],
    };
  };
  const etcds = () => [
    compared("etcd", "etcd-server", 2379, facts.etcdAt?.client),
    compared("etcd for its peers", "etcd-peer", 2380, facts.etcdAt?.peer),
  ];
  const own = compared("kube-apiserver", "apiserver", facts.bindPort);
  return await Promise.all([own, ...(facts.externalEtcd ? [] : etcds())]);
}
