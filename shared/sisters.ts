/** The other masters: whether their etcd runs, and under which CA. They may still have what is lost here. */
import { connect } from "node:tls";
import { signedBy } from "./certificate.ts";
import { type ClusterFacts, certPath, certRow } from "./certs.ts";
import type { EtcdData } from "./etcd/data.ts";
import { readText } from "./files.ts";

export interface Sister {
  /** The member's name, which kubeadm makes the node's. */
  name: string;
  memberId: string;
  /** The IP address of its peer URL. */
  host: string;
  /** The certificate its etcd shows; undefined where none answers. */
  servedPem: string | undefined;
}

const ETCD_CLIENT_PORT = 2379;
const HANDSHAKE_MS = 2000;

/** All members but those at this machine's addresses, each asked at once. Reads only. */
export async function sistersOf(data: EtcdData, ownAddresses: readonly string[]): Promise<Sister[]> {
  const others = data.members
    .map((member) => ({ name: member.name, memberId: member.id, host: hostOf(member.peerURLs[0] ?? "") }))
    .filter(({ host }) => host !== "" && !ownAddresses.includes(host));
  return Promise.all(others.map(async (sister) => ({ ...sister, servedPem: await servedPemOrNone(sister.host) })));
}

/** Whether a sister's etcd shows a certificate of the etcd CA on this node's disk. */
export function servesOurCa(sister: Sister, facts: ClusterFacts): boolean {
  const ca = readText(certPath(certRow("etcd-ca"), facts.certificatesDir));
  return ca !== undefined && sister.servedPem !== undefined && signedBy(sister.servedPem, ca);
}

/** How many members have to run for etcd to answer. */
export function quorumOf(members: number): number {
  return Math.floor(members / 2) + 1;
}

/** The certificate that a server shows, whatever it then thinks of us. Errors: the connection's own. */
export function servedPem(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, timeout: HANDSHAKE_MS }, () => {
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      resolve(
        `-----BEGIN CERTIFICATE-----\n${raw
          .toString("base64")
          .replace(/(.{64})/g, "$1\n")
          .trimEnd()}\n-----END CERTIFICATE-----\n`,
      );
    });
    socket.on("error", reject);
    socket.on("timeout", () => socket.destroy(new Error(`${host}:${port} does not answer`)));
  });
}

/** No answer is an answer here: that etcd does not run. */
async function servedPemOrNone(host: string): Promise<string | undefined> {
  const [answer] = await Promise.allSettled([servedPem(host, ETCD_CLIENT_PORT)]);
  return answer.status === "fulfilled" ? answer.value : undefined;
}

function hostOf(url: string): string {
  return url === "" ? "" : new URL(url).hostname.replace(/^\[|\]$/g, "");
}
