/** The rows of the damage table about the kubelet: whether it runs, and the credentials that it uses. */
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { cniKubeconfigs, trustsOldCa } from "../node/cni-trust.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletActive, type Node } from "../node/node.ts";
import { certInfo, keyMatches, signedBy } from "../pki/certificate.ts";
import { certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { day, timeVerdict } from "../pki/judge.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import { isDamage, type Row, shown } from "./assessment.ts";

/** The kubelet, and a second row where the containers cannot be looked at. */
export async function kubeletRow(node: Node, running: Container[] | Fail): Promise<Row[]> {
  const state = (await kubeletActive()) ? "ok" : "!STOPPED!";
  const certificate = clientCertificate(node);
  if (running instanceof Fail) {
    return [
      { id: "kubelet", what: "kubelet", state, detail: certificate },
      { id: "containers", what: "containers", state: "known", detail: `${running.message}; ${running.hint}` },
    ];
  }
  const controlPlane = running.filter(isServerContainer);
  const counts = `${controlPlane.length} control-plane and ${running.length - controlPlane.length} other containers running`;
  return [{ id: "kubelet", what: "kubelet", state, detail: `${counts}; ${certificate}` }];
}

function clientCertificate(node: Node): string {
  const pem = clientText(node.kubelet);
  if (!pem) return "no client certificate";
  const info = attempt(() => certInfo(pem));
  if (info instanceof Fail) return "a client certificate that cannot be read";
  return `client certificate ${info.notAfter < new Date() ? "expired on" : "until"} ${day(info.notAfter)}`;
}

/** The state of a certificate in a text that has its key, too. */
function pemState(read: () => string | undefined, ca: string | undefined, nodeName?: string): string {
  const pem = attempt(read);
  if (!pem) return "!MISSING!";
  const info = pem instanceof Fail ? pem : attempt(() => certInfo(pem));
  if (info instanceof Fail || pem instanceof Fail) return "!UNREADABLE!";
  if (attempt(() => keyMatches(pem, pem)) !== true) return "!UNREADABLE!";
  if (ca === undefined || attempt(() => signedBy(pem, ca)) !== true) return "!OTHER CA!";
  if (nodeName !== undefined && info.cn !== `system:node:${nodeName}`) return "!OTHER NODE!";
  return shown(timeVerdict(info)?.[0] ?? "ok");
}

/** Judged by the CA that this kubelet trusts: the best that is possible without etcd's data. */
export function clientPemRow({ kubelet }: Node): Row {
  const [what, detail, ca] = [kubelet.clientPem, "the kubelet's client certificate", attempt(() => readText(kubelet.clientCaFile))];
  const id = "kubelet-client-certificate";
  const read = () => clientText(kubelet);
  if (ca === undefined && attempt(read)) return { id, what, state: "known", detail: `${detail}; no CA is here to check it with` };
  return { id, what, state: pemState(read, ca instanceof Fail ? undefined : ca), detail };
}

/** What the kubelet trusts and uses, where it is wrong. Without a CA here it cannot be judged. */
export function kubeletTrustRows(node: Node, { facts }: PartialFacts): Row[] {
  const ca = facts && attempt(() => caText(certRow("ca"), facts.certificatesDir));
  if (!ca || ca instanceof Fail || attempt(() => certInfo(ca)) instanceof Fail) return [];
  const { kubeconfig, clientPem, serverPem, serverTlsBootstrap } = node.kubelet;
  const config = attempt(() => readKubeconfig(kubeconfig));
  const configState = config instanceof Fail ? "!UNREADABLE!" : !config ? "!MISSING!" : trustsCa(config.caPem, ca) ? "ok" : "!OTHER CA!";
  const rows: Row[] = [
    { id: "kubelet-conf", what: kubeconfig.replace("/etc/kubernetes/", ""), state: configState, detail: "part 1 writes a new one" },
    {
      id: "kubelet-client-certificate",
      what: clientPem,
      state: pemState(() => clientText(node.kubelet), ca, node.name),
      detail: "the kubelet's client certificate; part 1 issues a new one",
    },
    // Where there is none, it waits for an approval that not every cluster needs.
    ...(serverTlsBootstrap && exists(serverPem)
      ? [
          {
            id: "kubelet-serving-certificate" as const,
            what: serverPem,
            state: pemState(() => readText(serverPem), ca),
            detail: "the kubelet's serving certificate; the kubelet asks for a new one, part 3 approves it",
          },
        ]
      : []),
  ];
  return rows.filter(isDamage);
}

/** Kubeconfigs of the network plugin with the old CA: no part that issues certificates mends them. */
export async function cniRows({ kubelet }: Node): Promise<Row[]> {
  const ca = attempt(() => readText(kubelet.clientCaFile));
  if (!ca || ca instanceof Fail) return [];
  const rows: Row[] = [];
  for (const what of cniKubeconfigs())
    if (await trustsOldCa(what, ca)) rows.push({ id: "cni-kubeconfig", what, state: "!OLD CA!", detail: NO_NEW_POD });
  return rows;
}

const NO_NEW_POD = "no new pod starts on this node, and none ends, until the network plugin's agent here has restarted";
