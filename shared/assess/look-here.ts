/** Looks at this node once, for the assessment and for the plan. Reads only. */
import { etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import type { EtcdPlace } from "../etcd-location/etcd-proof.ts";
import {
  askControlPlaneNode,
  type ControlPlaneNode,
  type PartialFacts,
} from "../facts/control-plane-node.ts";
import { ANSWERS } from "../facts/endpoint.ts";
import { attemptLater, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { CONTROL_PLANE, type Container, containers } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { bothCas, type Finding, readable } from "../pki/examine.ts";
import { clusterServer, localServer } from "../pki/kubeconfigs.ts";
import { whoAnswers } from "../pki/served.ts";

export interface Looked {
  node: Node;
  /** All containers, or why they cannot be listed, which is no damage of the PKI. */
  all: Container[] | Fail;
  place: EtcdPlace;
  /** Undefined if no etcd data is here. */
  known: PartialFacts | undefined;
}

/**
 * `etcdData`, `endpoint`: as typed. Errors: Fail if this is no kubeadm node at all, and as `etcdDataOf`;
 * Refused if the endpoint is no place.
 */
export async function lookHere(etcdData: string | undefined, endpoint?: string): Promise<Looked> {
  const node = await readNode();
  const all = await attemptLater(() => containers(node.runtimeEndpoint));
  const place = await etcdDataOf(etcdData, { node, all: seen(all) });
  sayPlace(place);
  const ask = () => askControlPlaneNode(place, node, { given: endpoint, all: seen(all) });
  return { node, all, place, known: exists(place.dir) ? await ask() : undefined };
}

export function seen(all: Container[] | Fail): Container[] {
  return all instanceof Fail ? [] : all;
}

/**
 * The first line about a healthy node: what was checked, and which servers answer. `findings`: all are right.
 * Undefined if this node's API server or etcd does not answer: then nobody knows.
 */
export async function wellLine(
  cp: ControlPlaneNode,
  findings: readonly Finding[],
): Promise<string | undefined> {
  const { facts, node, cluster } = cp;
  const manifests = CONTROL_PLANE.map((name) => manifestPath({ node }, name));
  const { kubeconfig, clientPem } = node.kubelet;
  const files = new Set([...findings.flatMap(({ paths }) => paths), ...manifests, kubeconfig, clientPem]);
  const ends = findings.flatMap(({ cert }) => cert?.notAfter ?? []).sort((a, b) => +a - +b);
  const cas = `${bothCas(facts.certificatesDir, cluster.oldCaPem)}\n${facts.shown ?? ""}`;
  const etcdCa = readable(certPath(certRow("etcd-ca"), facts.certificatesDir)) ?? "";
  const { client, peer } = facts.etcdAt ?? { client: facts.advertiseAddress, peer: facts.advertiseAddress };
  const etcd = [endpointUrl(client, 2379), endpointUrl(peer, 2380)];
  const servers = [...new Set([localServer(facts), clusterServer(facts)])];
  const answers = await Promise.all([
    ...servers.map((to) => whoAnswers(to, cas)),
    ...etcd.map((to) => whoAnswers(to, etcdCa)),
  ]);
  const answering = answers.filter((answer) => answer === "ours").length;
  if (answers[0] !== "ours" || answers[servers.length] !== "ours") return undefined;
  const silent =
    servers.length > 1 && answers[1] !== "ours"
      ? `; from here ${clusterServer(facts)} ${ANSWERS[answers[1]!]}`
      : "";
  const expiry = ends[0] ? ` (the first expires on ${ends[0].toISOString().slice(0, 10)})` : "";
  return `${[...files].filter(exists).length} files${expiry}, ${answering} servers answer with certificates of this cluster's CA${silent}`;
}
