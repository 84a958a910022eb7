/**
 * What is still known of the cluster's public keys: certificates in etcd's data and on this node's disk, and the tokens that pods hold.
 * Each place is a row; what cannot be read is said, and the others are asked.
 */
import type { EtcdData } from "../etcd/data.ts";
import { Fail } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import type { ConfigMap, Secret } from "../k8s/storage.ts";
import { readObject, readObjects } from "../k8s/stored.ts";
import { type Node, PODS_DIR } from "../nodes/node.ts";
import { type AuthorityText, type Evidence, KUBELETS_CA } from "../pki/authority-key.ts";
import { certificatesIn } from "../pki/certificate.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { attempt } from "../pki/verdicts.ts";

/** A token of a ServiceAccount: which key signed it, and when. */
export interface KnownToken {
  from: string;
  /** base64url(SHA-256(SubjectPublicKeyInfo)) of the key that signed it. */
  kid: string;
  /** "RS256", "ES256", "ES384". */
  algorithm: string;
  /** Seconds since 1970; 0 in the tokens of Secrets, which do not say it. */
  issuedAt: number;
}

export interface Known extends Evidence {
  texts: AuthorityText[];
  tokens: KnownToken[];
  /** Places that could not be read, a sentence each. */
  unread: string[];
}

/** Where to look. Without etcd's data, only this node's disk is. */
export interface Places {
  data: EtcdData | undefined;
  node: Node | undefined;
  certificatesDir: string;
}

interface Row {
  authority: AuthorityText["authority"];
  from: string;
  read: (places: Places) => string | undefined;
}

/** Places that mount what the cluster uses now. */
export const IN_PODS = "the pods of this node";

const AUTHENTICATION = "kube-system/extension-apiserver-authentication";

// biome-ignore format: a table; what the cluster itself goes by comes first
const ROWS: readonly Row[] = [
  { authority: "ca",             from: "kube-root-ca.crt",               read: ({ data }) => configMap(data, "kube-system/kube-root-ca.crt", "ca.crt") },
  { authority: "ca",             from: "cluster-info",                   read: ({ data }) => caIn(configMap(data, "kube-public/cluster-info", "kubeconfig")) },
  { authority: "ca",             from: "extension-apiserver-authentication", read: ({ data }) => configMap(data, AUTHENTICATION, "client-ca-file") },
  { authority: "ca",             from: "kubelet.conf",                   read: ({ node }) => node && readKubeconfig(node.kubelet.kubeconfig)?.caPem },
  { authority: "ca",             from: KUBELETS_CA,                      read: ({ node }) => node && readText(node.kubelet.clientCaFile) },
  { authority: "ca",             from: "pki/ca.crt",                     read: ({ certificatesDir }) => readText(`${certificatesDir}/ca.crt`) },
  { authority: "ca",             from: IN_PODS,                          read: ({ node }) => projected("ca.crt", node).join("\n") },
  { authority: "ca",             from: "token Secrets",                  read: ({ data }) => tokenSecrets(data).map((secret) => inSecret(secret, "ca.crt")).join("\n") },
  { authority: "front-proxy-ca", from: "extension-apiserver-authentication", read: ({ data }) => configMap(data, AUTHENTICATION, "requestheader-client-ca-file") },
  { authority: "front-proxy-ca", from: "pki/front-proxy-ca.crt",         read: ({ certificatesDir }) => readText(`${certificatesDir}/front-proxy-ca.crt`) },
  { authority: "etcd-ca",        from: "pki/etcd/ca.crt",                read: ({ certificatesDir }) => readText(`${certificatesDir}/etcd/ca.crt`) },
];

/** Asks every place. Reads only. */
export function readKnown(places: Places): Known {
  const known: Known = { texts: [], tokens: [], unread: [] };
  const read = <T>(from: string, action: () => T): T | undefined => {
    const value = attempt(action);
    if (!(value instanceof Fail)) return value;
    known.unread.push(`${from}: ${value.message}`);
    return undefined;
  };
  for (const { authority, from, read: text } of ROWS) {
    const found = read(from, () => text(places));
    if (found && certificatesIn(found).length > 0) known.texts.push({ authority, from, text: found });
  }
  const tokens: [string, () => string[]][] = [
    [IN_PODS, () => projected("token", places.node)],
    ["token Secrets", () => tokenSecrets(places.data).map((secret) => inSecret(secret, "token"))],
  ];
  for (const [from, find] of tokens) known.tokens.push(...(read(from, find) ?? []).flatMap((token) => tokenIn(token, from) ?? []));
  return known;
}

/** The master whose controller-manager leads, by its Lease: that one alone holds ca.key (holderIdentity is HOST_UUID). */
export function leaderIn(data: EtcdData | undefined): string | undefined {
  const lease =
    data && attempt(() => readObject<{ spec?: { holderIdentity?: string } }>(data, "leases/kube-system/kube-controller-manager"));
  return lease instanceof Fail ? undefined : lease?.spec?.holderIdentity?.replace(/_[^_]*$/, "");
}

function configMap(data: EtcdData | undefined, name: string, key: string): string | undefined {
  return data && readObject<ConfigMap>(data, `configmaps/${name}`)?.data?.[key];
}

/** cluster-info's kubeconfig has a cluster without a name, and no context. */
function caIn(kubeconfig: string | undefined): string | undefined {
  const base64 = /certificate-authority-data:\s*(\S+)/.exec(kubeconfig ?? "")?.[1];
  return base64 && Buffer.from(base64, "base64").toString("utf8");
}

function tokenSecrets(data: EtcdData | undefined): Secret[] {
  const secrets = data ? readObjects<Secret>(data, "secrets/") : [];
  return secrets.filter(({ type }) => type === "kubernetes.io/service-account-token");
}

function inSecret({ data }: Secret, key: string): string {
  return Buffer.from(data?.[key] ?? "", "base64").toString();
}

/** Each file of this name in the projected volumes of this node's pods, each content once. */
function projected(name: string, node: Node | undefined): string[] {
  const pods = node?.kubelet.podsDir ?? PODS_DIR;
  const volumes = list(pods).flatMap((uid) => {
    const folder = `${pods}/${uid}/volumes/kubernetes.io~projected`;
    return list(folder).map((volume) => `${folder}/${volume}`);
  });
  return [...new Set(volumes.flatMap((volume) => readText(`${volume}/${name}`) ?? []))];
}

/** What a token says of its key; undefined where it is no token, or an old one without a key's name. Its signature is not looked at. */
function tokenIn(token: string, from: string): KnownToken | undefined {
  const [head, claims] = token.split(".").map((part) => {
    const text = Buffer.from(part, "base64url").toString("utf8");
    return /^\{.*\}$/s.test(text) ? (attempt(() => jsonIn(text)) as Record<string, unknown> | Fail) : undefined;
  });
  if (!head || head instanceof Fail || typeof head.kid !== "string" || typeof head.alg !== "string") return undefined;
  const issuedAt = claims && !(claims instanceof Fail) && typeof claims.iat === "number" ? claims.iat : 0;
  return { from, kid: head.kid, algorithm: head.alg, issuedAt };
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fail("The token cannot be read", { hint: "it is no JSON Web Token", cause });
  }
}
