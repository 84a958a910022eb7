#!/usr/bin/env bun
/**
 * Thousands of kubelets, as part 3 sees them: a Node, a Lease that is renewed every ten seconds, a CSR for a
 * serving certificate in the node's name, and, after it is issued, a port 10250 that serves with it. Each has
 * its own address in 127.0.0.0/8.
 *
 * A process of close.ts: pretend-kubelets.ts LAB-FILE COUNT. It prints `asked` when all CSRs are created, and
 * runs until it is killed.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { watch } from "../../../shared/api/many.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { inParallel } from "../../../shared/in-parallel.ts";
import { type Csr, nodeAsking, requestsTo, SERVING_SIGNER } from "../../../shared/workers/csr.ts";
import { KUBELET_PORT } from "../../../shared/workers/node-status.ts";

/** How another process of the benchmark reaches the API; in a file, as it has a key in it. */
export interface LabFile {
  server: string;
  ca: string;
  cert: string;
  key: string;
}

const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const WIDTH = 50;
const RENEW_MS = 10_000;

/** Renewals at the same time: real kubelets are spread over the ten seconds. */
const RENEWALS = 5;

/** The nodes that etcd knew before. */
export function pretendNodes(count: number): KnownNode[] {
  return Array.from({ length: count }, (_, i) => {
    const name = `node-${String(i).padStart(5, "0")}`;
    return {
      name,
      uid: name,
      controlPlane: false,
      claimed: { names: [name], ips: [`127.10.${i >> 8}.${i & 255}`] },
      places: [],
    };
  });
}

/** A CSR like a kubelet's. `asking` is the user, who may be another than the node in it. */
export async function askForServing(
  lab: LabFile,
  asking: string,
  node: KnownNode,
  keys: CryptoKeyPair,
  groups = "system:nodes",
) {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ O: ["system:nodes"] }, { CN: [`system:node:${node.name}`] }],
    keys,
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        ...node.claimed.names.map((value) => ({ type: "dns" as const, value })),
        ...node.claimed.ips.map((value) => ({ type: "ip" as const, value })),
      ]),
    ],
  });
  const api = new KubeApi({
    ...lab,
    headers: { "Impersonate-User": `system:node:${asking}`, "Impersonate-Group": groups },
  });
  const spec = {
    request: Buffer.from(request.toString("pem")).toString("base64"),
    signerName: SERVING_SIGNER,
    usages: ["digital signature", "server auth"],
  };
  await api.create(CSRS, { metadata: { generateName: "csr-" }, spec });
}

async function main() {
  const [file = "", count = ""] = process.argv.slice(2);
  const lab = (await Bun.file(file).json()) as LabFile;
  const api = new KubeApi(lab);
  const nodes = pretendNodes(Number(count));
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ]);
  await inParallel(nodes, WIDTH, async (node) => {
    await api.create("/api/v1/nodes", {
      metadata: { name: node.name, labels: { "kubernetes.io/hostname": node.name } },
    });
    await askForServing(lab, node.name, node, keys);
  });
  await inParallel(nodes, WIDTH, (node) =>
    api.create(LEASES, { metadata: { name: node.name }, spec: leaseSpec(node) }),
  );
  let renewing = false;
  setInterval(() => {
    if (renewing) return;
    renewing = true;
    renewAll(api, nodes).finally(() => (renewing = false));
  }, RENEW_MS);
  console.log("asked");
  await serveWhatIsIssued(api, nodes, await pemOf(keys.privateKey));
}

function renewAll(api: KubeApi, nodes: KnownNode[]) {
  return inParallel(nodes, RENEWALS, (node) =>
    api.patch(`${LEASES}/${node.name}`, { spec: leaseSpec(node) }),
  );
}

function leaseSpec({ name }: KnownNode) {
  return {
    holderIdentity: name,
    leaseDurationSeconds: 40,
    renewTime: new Date().toISOString().replace("Z", "000Z"),
  };
}

async function serveWhatIsIssued(api: KubeApi, nodes: KnownNode[], key: string) {
  const waiting = new Map(nodes.map((node) => [node.name, node.claimed.ips[0]!]));
  for await (const { object } of watch<Csr>(api, requestsTo(SERVING_SIGNER), new AbortController().signal)) {
    const { certificate } = object.status ?? {};
    const hostname = waiting.get(nodeAsking(object));
    if (!certificate || !hostname) continue;
    waiting.delete(nodeAsking(object));
    const cert = Buffer.from(certificate, "base64").toString();
    Bun.serve({
      hostname,
      port: KUBELET_PORT,
      tls: { cert, key },
      fetch: () => new Response("Unauthorized", { status: 401 }),
    });
  }
}

async function pemOf(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", key)).toString("base64");
  return `-----BEGIN PRIVATE ${"KEY"}-----\n${der}\n-----END PRIVATE ${"KEY"}-----\n`;
}

if (import.meta.main) await main();
