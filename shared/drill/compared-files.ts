/**
 * The files of a control plane node as they are now, and what its servers show, beside those that the repair
 * has made in memory.
 */
import { dirname } from "node:path";
import { command } from "../again.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { exists, list } from "../files/files.ts";
import { manifestPath, podsOnDisk } from "../manifests/on-disk.ts";
import { CERTS, certPath, keyPath, SERVICE_ACCOUNT_KEYS } from "../pki/certs.ts";
import { clusterServer, KUBECONFIGS, kubeconfigRow, localServer } from "../pki/kubeconfigs.ts";
import { servedPem } from "../pki/served.ts";
import type { ComparedFile, ComparedServer } from "./drill-report.ts";
import {
  certificateFields,
  type Fields,
  fieldDifferences,
  kubeconfigFields,
  manifestFields,
  textOf,
} from "./file-fields.ts";

/** A file that is there, and what it says; of a CA and of a key only that it is there. */
interface SeenFile {
  is: ComparedFile["is"];
  fields: Fields;
}

/** What is there now, or has been made in memory: path → content. */
export function filesOf(cp: ControlPlaneNode): Map<string, SeenFile> {
  const found = [...pkiFiles(cp), ...configFiles(cp), ...manifestFiles(cp)];
  return new Map(found.flatMap(([path, is, fields]) => (fields ? [[path, { is, fields }]] : [])));
}

type Found = [path: string, is: ComparedFile["is"], fields: Fields | undefined];

const present = (path: string): Fields | undefined => (exists(path) ? {} : undefined);

function pkiFiles({ facts: { certificatesDir: pki } }: ControlPlaneNode): Found[] {
  const pairs = CERTS.flatMap((row): Found[] => {
    const [cert, key] = [certPath(row, pki), keyPath(row, pki)];
    return [
      row.ca ? [cert, "certificate", certificateFields(textOf(cert))] : [cert, "CA", present(cert)],
      [key, "key", present(key)],
    ];
  });
  const sa = ["key", "pub"].map((end): Found => {
    const path = `${pki}/${SERVICE_ACCOUNT_KEYS.file}.${end}`;
    return [path, "key", present(path)];
  });
  return [...pairs, ...sa];
}

function configFiles({ node: { kubelet } }: ControlPlaneNode): Found[] {
  const clientPem = kubeletsClient(kubelet.clientPem);
  const others = KUBECONFIGS.filter(({ name }) => name !== "kubelet");
  return [
    ...others.map(({ path }): Found => [path, "kubeconfig", kubeconfigFields(path)]),
    [kubelet.kubeconfig, "kubeconfig", kubeconfigFields(kubelet.kubeconfig, clientPem)],
    [kubelet.clientPem, "certificate", certificateFields(clientPem)],
  ];
}

/** In memory the link does not lead to the new certificate, which is then the only one beside it. */
function kubeletsClient(clientPem: string): string {
  const newest = list(dirname(clientPem)).findLast((name) => /^kubelet-client-\d/.test(name));
  return textOf(clientPem) || textOf(`${dirname(clientPem)}/${newest}`);
}

function manifestFiles(cp: ControlPlaneNode): Found[] {
  return [...podsOnDisk(cp)].map(([key]) => {
    const [namespace = "", name = ""] = key.split("/");
    const path = manifestPath(cp, name, namespace);
    return [path, "manifest", manifestFields(path)];
  });
}

/**
 * Each file once, sorted by path. What is only made, such as a kubeconfig that was removed here, is no loss.
 */
export function compareFiles(
  here: Map<string, SeenFile>,
  back: Map<string, SeenFile>,
  cp: ControlPlaneNode,
): ComparedFile[] {
  return [...new Set([...here.keys(), ...back.keys()])].sort().map((path) => {
    const [has, gets] = [here.get(path), back.get(path)];
    const all = has && gets ? fieldDifferences(has.fields, gets.fields) : has ? [NOT_MADE] : [];
    const note = harmless(path, all, cp);
    return {
      ...{ path, is: (has ?? gets)!.is },
      ...(has && { here: has.fields }),
      ...(gets && { back: gets.fields }),
      differences: note ? [] : all,
      ...(note && { note }),
    };
  });
}

const NOT_MADE = "-the file";
const SUPER_ADMIN = command("02-control-plane --super-admin");

const ADMINS = ["O=system:masters", "O=kubeadm:cluster-admins"];

const isOfKey = (difference: string) => /^[-+]key /.test(difference);

/**
 * `kubeadm certs renew` keeps what an earlier version has written; part 2 writes what this version would, and
 * either is right. The first certificate of a kubelet has kubeadm's kind of key, the next ones have the kubelet's.
 */
function harmless(
  path: string,
  differences: readonly string[],
  { facts, node }: ControlPlaneNode,
): string | undefined {
  if (path === kubeconfigRow("super-admin").path && differences.includes(NOT_MADE))
    return `only if asked for: ${SUPER_ADMIN}`;
  if (path === node.kubelet.clientPem && differences.length > 0 && differences.every(isOfKey))
    return `as the kubelet renews it: ${differences.join(", ")}`;
  const either = [...ADMINS, clusterServer(facts), localServer(facts)];
  const isEither = (difference: string) => either.includes(difference.replace(/^[-+]\w+ /, ""));
  if (differences.length === 0 || !differences.every(isEither)) return undefined;
  return `as kubeadm ${facts.kubernetesVersion} writes it: ${differences.join(", ")}`;
}

/** etcd's ports are kubeadm's (app/constants). */
function serversOf({ facts }: ControlPlaneNode) {
  const at = (name: string, port: number, host = facts.advertiseAddress) => ({ name, port, host });
  return {
    apiserver: at("kube-apiserver", facts.bindPort),
    "etcd-server": at("etcd", 2379, facts.etcdAt?.client),
    "etcd-peer": at("etcd for its peers", 2380, facts.etcdAt?.peer),
  } as Record<string, ReturnType<typeof at>>;
}

/**
 * `back`: what the repair has made. A server that does not answer is a difference: on a node that is well all
 * of them do.
 */
export async function compareServers(
  cp: ControlPlaneNode,
  back: Map<string, SeenFile>,
): Promise<ComparedServer[]> {
  const rows = CERTS.flatMap((row) => {
    const server = serversOf(cp)[row.name];
    return server ? [{ path: certPath(row, cp.facts.certificatesDir), server }] : [];
  });
  return await Promise.all(
    rows.map(async ({ path, server: { name, host, port } }) => {
      const [shown] = await Promise.allSettled([servedPem(host, port)]);
      const fields = shown.status === "fulfilled" ? certificateFields(shown.value) : undefined;
      const made = back.get(path)?.fields;
      const why = shown.status === "rejected" ? String(shown.reason) : "it shows no certificate";
      const differences = fields
        ? made
          ? fieldDifferences(fields, made)
          : ["-the file"]
        : [`-no answer: ${why}`];
      return { server: `${name}, port ${port}`, path, differences };
    }),
  );
}
