/** The other masters: whether their etcd runs, and under which CA. They may still have what is lost here. */
import { connect } from "node:tls";
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { readText } from "../files/files.ts";
import { certInfo, isValidNow, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow } from "../pki/certs.ts";

export interface Sister {
  /** The member's name, which kubeadm makes the node's. */
  name: string;
  memberId: string;
  /** The IP address and port of its peer URL. */
  host: string;
  port: number;
  /**
   * The certificate its etcd shows to its peers; undefined where none answers. The peer port, as etcd does not serve clients before it
   * has found a quorum.
   */
  servedPem: string | undefined;
}

/** A sister that is only slow must not be taken for one that has no keys any more. */
const HANDSHAKE_MS = 10_000;

/** All members but those at this machine's addresses, each asked at once. Reads only. */
export async function sistersOf(data: EtcdData, ownAddresses: readonly string[]): Promise<Sister[]> {
  const members = await Promise.all(
    data.members.map(async (member) => ({ ...placeOf(member), servedPem: await servedPemOrNone(placeOf(member)) })),
  );
  return members.filter(({ host }) => !ownAddresses.includes(host));
}

/** Whether this machine's own etcd runs, with a certificate of the CA on disk. */
export async function ownEtcdRuns(data: EtcdData, ownAddresses: readonly string[], facts: ClusterFacts): Promise<boolean> {
  const own = data.members.map(placeOf).find(({ host }) => ownAddresses.includes(host));
  return own !== undefined && servesOurCa({ servedPem: await servedPemOrNone(own) }, facts);
}

/** Whether a sister's etcd shows a certificate of the etcd CA on this node's disk. */
export function servesOurCa(sister: Pick<Sister, "servedPem">, facts: ClusterFacts): boolean {
  const ca = readText(certPath(certRow("etcd-ca"), facts.certificatesDir));
  return ca !== undefined && sister.servedPem !== undefined && signedBy(sister.servedPem, ca);
}

/** Whether other members can talk to a sister's etcd: its certificate is of our CA, and is valid now. */
export function isHeard(sister: Pick<Sister, "servedPem">, facts: ClusterFacts): boolean {
  return servesOurCa(sister, facts) && isValidNow(certInfo(sister.servedPem!));
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
async function servedPemOrNone({ host, port }: { host: string; port: number }): Promise<string | undefined> {
  const [answer] = await Promise.allSettled([servedPem(host, port)]);
  return answer.status === "fulfilled" ? answer.value : undefined;
}

function placeOf(member: Member): Omit<Sister, "servedPem"> {
  const url = new URL(member.peerURLs[0] ?? "https://0.0.0.0:2380");
  return { name: member.name, memberId: member.id, host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 2380) };
}
