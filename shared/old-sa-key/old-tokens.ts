/**
 * Finds old service-account tokens: in Secrets in etcd's data, and in volumes of this node's pods; and copies
 * of their public key, which count only if they fit the tokens. Reads only; prints no token. Layout of volumes:
 * /var/lib/kubelet/pods/UID/volumes/PLUGIN/NAME/FILE (kubernetes pkg/kubelet/kubelet_getters.go).
 */

import { createPublicKey } from "node:crypto";
import { again } from "../again.ts";
import { type Budget, budgetOf } from "../budget.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { kubeSystemUids, ofPodFolder } from "../evidence/owners.ts";
import { may, ofNamespace } from "../evidence/sources.ts";
import type { OldSaKey } from "../facts/course.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import type { Node } from "../node/node.ts";
import type { Secret } from "../objects/objects.ts";
import { decodeObject, isObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import type { Jwt } from "../pki/jwt.ts";
import { currentSaPub, oldSaPub, readJwt, tokenVerifier } from "../pki/sa-keys.ts";
import type { OldTokens } from "./tokens-of-one-key.ts";

const TOKEN_TYPE = "kubernetes.io/service-account-token";
const PLUGINS = ["kubernetes.io~projected", "kubernetes.io~secret"];

/** Bytes. No token is as long as this. */
const MAX_SIZE = 16_384;

/** So many tokens of each key are enough, however many thousands there are. */
const ENOUGH = 5;

/**
 * `isTrusted`: only an administrator of the cluster can have put it there (kube-system). `isBrought`: it is in the
 * operator's file.
 */
export interface FoundToken {
  jwt: Jwt;
  isTrusted: boolean;
  isBrought?: boolean;
}

interface Collected {
  found: FoundToken[];
  /** Their number by source; for the operator. */
  counts: { secrets: number; encrypted: number; volumes: number; file: number };
}

/** The remains of a lost service-account key. Unreadable data counts as having no tokens. */
export function oldSaKey(
  data: EtcdData | undefined,
  node: Pick<Node, "kubelet">,
  certificatesDir: string,
): OldSaKey {
  if (exists(oldSaPub(certificatesDir))) return "here";
  const collected = () =>
    withoutCurrentTokens(collectTokens(data!, node.kubelet.podsDir).found, certificatesDir);
  const old = data && attempt(() => tokensOfLastKey(collected()));
  if (old === undefined || old instanceof Fail) return "lost";
  return old.tokens.length >= (old.alg.startsWith("RS") ? 2 : 1) ? "in tokens" : "lost";
}

/**
 * Tokens of all sources; `podsDir`: the kubelet's. Errors: Fail if the named file does not exist, or there are too many
 * Secrets.
 */
export function collectTokens(
  data: EtcdData,
  podsDir: string,
  tokenFile?: string,
  budget = budgetOf(
    "the Secrets of etcd's data",
    "give a file with old tokens, a line each: --token-file FILE",
  ),
): Collected {
  const few = new Few();
  const inEtcd = fromSecrets(data, few, budget);
  const counts = {
    ...inEtcd,
    volumes: fromVolumes(data, podsDir, few),
    file: tokenFile ? addFromFile(tokenFile, few) : 0,
  };
  return { found: few.found, counts };
}

/** Leaves out tokens that the current sa.pub verifies: no key is lost for them. */
export function withoutCurrentTokens(found: readonly FoundToken[], certificatesDir: string): FoundToken[] {
  const current = currentSaPub(certificatesDir);
  if (!current) return [...found];
  const verifies = tokenVerifier(current);
  return found.filter(({ jwt }) => !verifies(jwt.text));
}

/** Keeps a few tokens of each key, and the newest one of kube-system: it shows which key was in use last. */
class Few {
  readonly found: FoundToken[] = [];
  readonly #kept = new Map<string, number>();
  #newest = 0;

  add(text: string, isTrusted: boolean, isBrought = false): boolean {
    const jwt = readJwt(text);
    if (!jwt) return false;
    const key = `${jwt.kid} ${isTrusted} ${isBrought}`;
    const count = this.#kept.get(key) ?? 0;
    const newest = isTrusted && jwt.issuedAt > this.#newest;
    if (newest) this.#newest = jwt.issuedAt;
    if (count >= ENOUGH && !newest) return true;
    this.found.push({ jwt, isTrusted, ...(isBrought && { isBrought }) });
    this.#kept.set(key, count + 1);
    return true;
  }
}

/** Errors: Fail where the budget is spent. */
function fromSecrets(data: EtcdData, few: Few, budget: Budget): { secrets: number; encrypted: number } {
  const prefix = `${registryPrefix(data)}/secrets/`;
  const counts = { secrets: 0, encrypted: 0 };
  for (const key of data.keys(prefix)) {
    budget.ask();
    const secret = decodeObject(data.get(key)!.value);
    if ("encrypted" in secret) counts.encrypted++;
    if (!isObject(secret) || (secret as Secret).type !== TOKEN_TYPE) continue;
    const token = Buffer.from((secret as Secret).data?.token ?? "", "base64").toString();
    const namespace = key.slice(prefix.length).split("/")[0]!;
    if (few.add(token, may(ofNamespace(namespace), "keys"))) counts.secrets++;
  }
  return counts;
}

function fromVolumes(data: EtcdData, podsDir: string, few: Few): number {
  const uids = kubeSystemUids(data);
  const isTrusted = (uid: string) => may(ofPodFolder(uid, uids), "keys");
  return list(podsDir)
    .flatMap((uid) =>
      volumeFiles(`${podsDir}/${uid}/volumes`).map((path) =>
        few.add(smallText(path, MAX_SIZE) ?? "", isTrusted(uid)),
      ),
    )
    .filter(Boolean).length;
}

/** The files that a pod sees; the kubelet's own begin with two dots. */
function volumeFiles(volumes: string): string[] {
  const all = PLUGINS.flatMap((plugin) => pathsIn(`${volumes}/${plugin}`)).flatMap(pathsIn);
  return all.filter((path) => !path.includes("/.."));
}

const pathsIn = (folder: string) => list(folder).map((name) => `${folder}/${name}`);

/** Tokens of other nodes, a line each. */
function addFromFile(path: string, few: Few): number {
  const text = readText(path);
  if (text === undefined)
    throw new Fail(`There is no "${path}"`, {
      hint: "give a file with old tokens, a line each: --token-file FILE",
    });
  return text.split("\n").filter((line) => few.add(line, false, true)).length;
}

/**
 * Picks the tokens of the key that was in use last. Errors: Fail if kube-system's tokens do not show which
 * one that was.
 */
export function tokensOfLastKey(found: readonly FoundToken[], wanted?: string): OldTokens {
  const trusted = found.filter((token) => token.isTrusted).map(({ jwt }) => jwt);
  const newest = Math.max(0, ...trusted.map((jwt) => jwt.issuedAt));
  const kids = new Set(trusted.filter((jwt) => jwt.issuedAt === newest).map((jwt) => jwt.kid));
  const kid = wanted ?? [...kids][0];
  if (kid === undefined) throw nothingShows(found);
  if (!wanted && kids.size > 1)
    throw new Fail(
      `The tokens of kube-system were signed by several keys: ${[...kids].map((one) => one || "(no kid)").join(", ")}`,
      { hint: `say which key was in use last: ${withKid("KID")}` },
    );
  // Without a kid only its namespace shows whether a token can be trusted.
  const candidates =
    kid === "" ? trusted : [...trusted, ...found.filter((token) => !token.isTrusted).map(({ jwt }) => jwt)];
  const matching = candidates.filter((jwt) => jwt.kid === kid);
  const tokens = matching.filter((jwt, i) => matching.findIndex((other) => other.text === jwt.text) === i);
  return { kid, alg: tokens[0]?.alg ?? "", tokens };
}

const withKid = (kid: string) => again({ kid }, { of: "00-token-key" });

/** A control plane node has none after a reboot: pods' volumes are in memory. */
function nothingShows(found: readonly FoundToken[]): Fail {
  const isKubeSystems = ({ jwt, isBrought }: FoundToken) =>
    isBrought && jwt.kid && jwt.subject.startsWith("system:serviceaccount:kube-system:");
  const kids = [...new Set(found.filter(isKubeSystems).map(({ jwt }) => jwt.kid))];
  if (kids.length > 0)
    return new Fail(
      `Only the file's tokens of kube-system name the key, and nothing here proves them: ${kids.join(", ")}`,
      {
        hint: `say that they are of kube-system's own pods, on a machine that you trust: ${withKid(kids.length > 1 ? "KID" : kids[0]!)}`,
      },
    );
  return new Fail("There is no old token of kube-system in etcd's data, nor in a pod of this node", {
    hint: `run the same line on another control plane node. If no other node has a token, collect tokens on a worker that you trust: (umask 077; (${COLLECT}) > tokens). Bring that file here, and give it: ${again({ "token-file": false }, { of: "00-token-key" })} --token-file tokens. Or name the key that you know to be the old one, if other tokens are here: ${withKid("KID")}`,
  });
}

/**
 * Prints the tokens of kube-system's pods on a worker, one a line. Their UIDs are in the names of the kubelet's folders of
 * logs, NAMESPACE_NAME_UID (pkg/kubelet/kuberuntime/helpers.go): a tenant can lay out a file called token in his own pod.
 */
export const COLLECT = `d=$(sed -n 's/^podLogsDir: *"*\\([^" ]*\\).*/\\1/p' /var/lib/kubelet/config.yaml 2> /dev/null); for p in "\${d:-/var/log/pods}"/kube-system_*; do for f in /var/lib/kubelet/pods/"\${p##*_}"/volumes/kubernetes.io~projected/*/token; do if [ -e "$f" ]; then cat "$f"; echo; fi; done; done`;

/** Copies by part 1 and by kubeadm, the output of an earlier run, and the file that the operator names. */
export function keyCopies(
  certificatesDir: string,
  named: string | undefined,
): { path: string; pems: string[] }[] {
  if (named !== undefined && readText(named) === undefined)
    throw new Fail(`There is no "${named}"`, {
      hint: "give a public key in PEM, or the cluster's published keys (JWKS): --from FILE",
    });
  const asides = list("/root").filter((name) => name.startsWith("kube-pki-repair-"));
  const backups = list("/etc/kubernetes/tmp");
  const paths = [
    ...(named ? [named] : []),
    oldSaPub(certificatesDir),
    ...(currentSaPub(certificatesDir) ? [] : [`${certificatesDir}/sa.pub`]),
    ...asides.map((name) => `/root/${name}/aside${certificatesDir}/sa.pub`),
    ...backups.flatMap((name) => [
      `/etc/kubernetes/tmp/${name}/sa.pub`,
      `/etc/kubernetes/tmp/${name}/pki/sa.pub`,
    ]),
  ];
  return paths.map((path) => ({ path, pems: keysIn(path) })).filter(({ pems }) => pems.length > 0);
}

/** Keys in PEM, or those of a JWKS (RFC 7517), as the API server publishes them at /openid/v1/jwks. */
function keysIn(path: string): string[] {
  const text = readText(path) ?? "";
  if (!text.trimStart().startsWith("{")) return publicKeysIn(text);
  try {
    const { keys } = JSON.parse(text) as { keys?: JsonWebKey[] };
    return (keys ?? []).map((key) =>
      String(createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" })),
    );
  } catch (cause) {
    throw new Fail(`There are no published keys (JWKS) in "${path}"`, {
      hint: "kubectl get --raw /openid/v1/jwks writes such a file",
      cause,
    });
  }
}
