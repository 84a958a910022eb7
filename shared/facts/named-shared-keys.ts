/**
 * Files that static pods and the kubelet read shared keys from: each must lead to the cluster's public keys. Owners:
 *
 * - certificatesDir's own files: their findings (pki/examine.ts), `strangeCa`, and `foreignSaRow` of 00-assess;
 * - kubeadm's usual folder, whoever reads there: `strangeFolder`;
 * - a file with the CA of before a repair: `fitNamedCas`, by which part 2 puts the current one in;
 * - one that is missing: `lostFiles`;
 * - all others that a flag of `CA_FLAGS` or of the service-account keys names, and the kubelet's clientCAFile: this file.
 *
 * A file may hold other CAs beside the cluster's, and a cluster may trust by another CA on purpose: a file is right, too,
 * if the cluster has published what is in it, or if it has signed what is shown to its reader. Client CAs of the
 * scheduler, the controller-manager and single signers are no shared keys: other CAs there are common. Reads only.
 */
import { attempt } from "../fail.ts";
import { realPath } from "../files/root.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { podsOnDisk } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { versionsAside } from "../node/rescue-folder.ts";
import type { Manifest } from "../objects/objects.ts";
import {
  certificatesIn,
  privateKeysIn,
  publicKeyHash,
  signedBy,
  type TrustedKeys,
  trustedKeys,
} from "../pki/certificate.ts";
import { certPath, keyPath } from "../pki/certs.ts";
import { strangeCa } from "./ca-copies.ts";
import type { PartialFacts } from "./node-facts.ts";
import type { StrangeFolder } from "./usual-folder.ts";

type KeyFacts = Pick<PartialFacts, "cluster" | "facts" | "rescue" | "certificatesDir">;
type Ca = "ca" | "etcd-ca" | "front-proxy-ca";
type Server = "etcd" | "kube-apiserver" | "kube-controller-manager";

/** A file whose keys are not the cluster's. */
interface StrangeNamed {
  path: string;
  /** "kube-apiserver --client-ca-file", "the kubelet's clientCAFile". */
  namedBy: string;
  /** The file with the cluster's keys. */
  own: string;
  /** A sentence: what fails, and when. */
  effect: string;
  /** Part 1 mends it. */
  byPart1?: true;
}

interface CaFlag {
  of: Server;
  flag: string;
  ca: Ca;
  /** Key of extension-apiserver-authentication: the API servers have published the file there. */
  published?: "client-ca-file" | "requestheader-client-ca-file";
  /** The flag whose certificate is shown to who reads the file. */
  shown?: [of: Server, flag: string];
  effect: string;
}

// biome-ignore format: a table
const CA_FLAGS: readonly CaFlag[] = [
  { of: "kube-apiserver", flag: "client-ca-file", ca: "ca", published: "client-ca-file",
    effect: "the API server refuses kubelets and kubeconfigs once it has read it" },
  { of: "kube-apiserver", flag: "requestheader-client-ca-file", ca: "front-proxy-ca", published: "requestheader-client-ca-file", shown: ["kube-apiserver", "proxy-client-cert-file"],
    effect: "aggregated APIs refuse the API server once it has read it" },
  { of: "kube-apiserver", flag: "etcd-cafile", ca: "etcd-ca", shown: ["etcd", "cert-file"],
    effect: "the API server does not reach etcd after its next start" },
  { of: "etcd", flag: "trusted-ca-file", ca: "etcd-ca", shown: ["kube-apiserver", "etcd-certfile"],
    effect: "etcd refuses the API server after its next start" },
  { of: "kube-controller-manager", flag: "root-ca-file", ca: "ca", shown: ["kube-apiserver", "tls-cert-file"],
    effect: "new pods trust no API server once the controller-manager has started again" },
];

/** One for each flag that leads elsewhere. `folder`: the stranger's, in kubeadm's usual place. None where the cluster cannot be read, or where its own keys are lost. */
export function foreignKeyFlags(
  keyFacts: KeyFacts,
  node: Node,
  folder: StrangeFolder | undefined,
): StrangeNamed[] {
  if (!keyFacts.facts || !keyFacts.cluster) return [];
  const pods = new Map([...podsOnDisk({ node }).values()].map((pod) => [pod.metadata.name, pod]));
  const place: Here = { keyFacts, pods, moved: folder?.files ?? [] };
  return [
    ...CA_FLAGS.flatMap((row) => strangeCaFile(row, place)),
    ...strangeSigner(place),
    ...strangeSaKeys(place),
    ...strangeClientCa(node, place),
  ];
}

interface Here {
  keyFacts: KeyFacts;
  pods: ReadonlyMap<string, Manifest>;
  /** Files of the stranger's folder, which part 1 moves aside. */
  moved: readonly string[];
}

/** On the host; the last value counts, as for the programs. */
function fileOf({ pods }: Here, of: Server, flag: string): string | undefined {
  return filesOf(pods.get(of), flag).at(-1);
}

function filesOf(pod: Manifest | undefined, flag: string): string[] {
  return pod
    ? podFlags(pod)
        .all(flag)
        .flatMap((inside) => hostPathOf(pod, inside) ?? [])
    : [];
}

function textOf(path: string | undefined): string | undefined {
  return path ? attempt(() => smallText(path), undefined) : undefined;
}

/** Keys that may be in such a file; none: the cluster's are not known here. */
function keysOfCa(ca: Ca, { keyFacts }: Here): TrustedKeys {
  const path = certPath(ca, keyFacts.certificatesDir);
  const isStrange = ca === "ca" && strangeCa(keyFacts) !== undefined;
  const before = versionsAside(path).map(({ text }) => text);
  return trustedKeys(
    ...(isStrange ? [] : [textOf(path), ...before]),
    ...(ca === "ca" ? [keyFacts.cluster!.oldCaPem] : []),
  );
}

/** A file of certificatesDir's, or of a folder that is moved, has another owner; one without a certificate trusts nobody. */
function isJudgedHere(path: string, own: string, { moved }: Here): boolean {
  return realPath(path) !== realPath(own) && !moved.some((one) => realPath(one) === realPath(path));
}

function strangeCaFile({ of, flag, ca, published, shown, effect }: CaFlag, here: Here): StrangeNamed[] {
  const { facts, cluster, certificatesDir } = here.keyFacts;
  if (ca === "etcd-ca" && facts!.externalEtcd) return [];
  const [path, own] = [fileOf(here, of, flag), certPath(ca, certificatesDir)];
  const text = textOf(path);
  const keys = new Set(keysOfCa(ca, here));
  if (!path || !text || keys.size === 0 || !isJudgedHere(path, own, here)) return [];
  if (published) for (const key of trustedKeys(cluster!.aggregated[published])) keys.add(key);
  const found = trustedKeys(text);
  if (found.size === 0 || !found.isDisjointFrom(keys)) return [];
  const leaf = shown && textOf(fileOf(here, ...shown));
  return leaf && isSigned(leaf, text) ? [] : [{ path, namedBy: `${of} --${flag}`, own, effect }];
}

function isSigned(leaf: string, cas: string): boolean {
  return attempt(() => certificatesIn(leaf).length > 0 && signedBy(leaf, cas), false);
}

const MANAGER = "kube-controller-manager";

/** The pair that signs CSRs is one that the API server accepts clients of: the cluster's, another of its file, or below it. */
function strangeSigner(here: Here): StrangeNamed[] {
  const { certificatesDir } = here.keyFacts;
  const [cert, key] = ["cert", "key"].map((end) => fileOf(here, MANAGER, `cluster-signing-${end}-file`));
  const [text, keyText] = [textOf(cert), textOf(key)];
  const clients = textOf(fileOf(here, "kube-apiserver", "client-ca-file")) ?? "";
  const cas = keysOfCa("ca", here);
  const trusted = new Set([...cas, ...trustedKeys(clients)]);
  const own = trustedKeys(certificatesIn(text ?? "")[0]);
  const found: StrangeNamed[] = [];
  const effect = "kubelets that ask for a certificate get one that the API server refuses";
  const caPath = certPath("ca", certificatesDir);
  if (cert && own.size > 0 && cas.size > 0 && isJudgedHere(cert, caPath, here))
    if (own.isDisjointFrom(trusted) && !isSigned(text!, `${clients}${textOf(caPath) ?? ""}`))
      found.push({ path: cert, namedBy: `${MANAGER} --cluster-signing-cert-file`, own: caPath, effect });
  const keyOfCa = keyPath("ca", certificatesDir);
  const signs = halvesIn(keyText, 1);
  if (key && signs.length > 0 && own.size > 0 && isJudgedHere(key, keyOfCa, here) && !own.has(signs[0]!))
    found.push({
      path: key,
      namedBy: `${MANAGER} --cluster-signing-key-file`,
      own: keyOfCa,
      effect: NO_PAIR,
    });
  return found;
}

const NO_PAIR = "it is not the key of --cluster-signing-cert-file, so the controller-manager signs no CSR";

/** Hashes of the public halves of the private keys in a text. */
function halvesIn(text: string | undefined, most = 99): string[] {
  return privateKeysIn(text ?? "")
    .slice(0, most)
    .map(publicKeyHash);
}

/** The key that signs tokens is one of those by which the API server checks them: older keys may be beside it. */
function strangeSaKeys(here: Here): StrangeNamed[] {
  const own = `${here.keyFacts.certificatesDir}/sa.key`;
  const pub = realPath(`${here.keyFacts.certificatesDir}/sa.pub`);
  const checks = filesOf(here.pods.get("kube-apiserver"), "service-account-key-file");
  const texts = checks.flatMap((path) => textOf(path) ?? []);
  const hashes = new Set([...trustedKeys(...texts), ...texts.flatMap((text) => halvesIn(text))]);
  // a file that cannot be read may have the key
  if (hashes.size === 0 || texts.length < checks.length) return [];
  const signers = [
    ["kube-apiserver", "service-account-signing-key-file"],
    [MANAGER, "service-account-private-key-file"],
  ] as const;
  return signers.flatMap(([of, flag]) => {
    const path = fileOf(here, of, flag);
    const [hash] = halvesIn(textOf(path), 1);
    if (!path || hash === undefined || hashes.has(hash)) return [];
    // the pair sa.key and sa.pub has a finding
    if (!isJudgedHere(path, own, here) && checks.some((one) => realPath(one) === pub)) return [];
    const effect =
      "the API server refuses the tokens that it signs, as no --service-account-key-file has its public half";
    return [{ path, namedBy: `${of} --${flag}`, own, effect }];
  });
}

/** The API server asks the kubelet with a certificate of the cluster's CA; part 1 writes that CA into this file. */
function strangeClientCa({ kubelet: { clientCaFile: path } }: Node, here: Here): StrangeNamed[] {
  const own = certPath("ca", here.keyFacts.certificatesDir);
  const [found, keys] = [trustedKeys(textOf(path)), keysOfCa("ca", here)];
  if (found.size === 0 || keys.size === 0 || !found.isDisjointFrom(keys) || !isJudgedHere(path, own, here))
    return [];
  const effect = "the kubelet refuses the API server after its next start: no kubectl logs, no exec";
  return [{ path, namedBy: "the kubelet's clientCAFile", own, effect, byPart1: true }];
}
