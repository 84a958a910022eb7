/**
 * Where old service-account tokens still are: in Secrets in etcd's data, and in volumes of this node's pods. Reads only; prints no token.
 * Layout of volumes: /var/lib/kubelet/pods/UID/volumes/PLUGIN/NAME/FILE (kubernetes pkg/kubelet/kubelet_getters.go).
 */
import type { EtcdData } from "../etcd-data/data.ts";
import type { OldSaKey } from "../facts/next.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import type { Secret } from "../k8s/objects.ts";
import { decodeObject, isObject } from "../k8s/storage.ts";
import { registryPrefix } from "../k8s/stored.ts";
import type { Node } from "../node/node.ts";
import { oldSaPub, todaysSaPub } from "../pki/sa-keys.ts";
import { readJwt, tokenVerifier } from "../pki/tokens.ts";
import { kubeSystemUids, ofPodFolder } from "../trust/pod-owner.ts";
import { may, ofNamespace } from "../trust/sources.ts";
import { type FoundToken, tokensOfLastKey } from "./old-sa-pub.ts";

const TOKEN_TYPE = "kubernetes.io/service-account-token";
const PLUGINS = ["kubernetes.io~projected", "kubernetes.io~secret"];

/** Bytes. No token is as long as this. */
const MAX_SIZE = 16_384;

/** Of each key so many tokens are enough, however many thousands there are. */
const ENOUGH = 5;

interface Collected {
  found: FoundToken[];
  /** How many there were, by where; for the operator. */
  counts: { secrets: number; encrypted: number; volumes: number; file: number };
}

/** What is left of a lost service-account key. Data that cannot be read has no tokens. */
export function oldSaKey(data: EtcdData | undefined, node: Pick<Node, "kubelet">, certificatesDir: string): OldSaKey {
  if (exists(oldSaPub(certificatesDir))) return "here";
  const collected = () => notOfToday(collectTokens(data!, node.kubelet.podsDir).found, certificatesDir);
  const old = data && attempt(() => tokensOfLastKey(collected()));
  if (old === undefined || old instanceof Fail) return "lost";
  return old.tokens.length >= (old.alg.startsWith("RS") ? 2 : 1) ? "in tokens" : "lost";
}

/** All places at once; `podsDir`: the kubelet's. Errors: Fail where the named file is not there. */
export function collectTokens(data: EtcdData, podsDir: string, tokenFile?: string): Collected {
  const few = new Few();
  const inEtcd = fromSecrets(data, few);
  const counts = { ...inEtcd, volumes: fromVolumes(data, podsDir, few), file: tokenFile ? fromFile(tokenFile, few) : 0 };
  return { found: few.found, counts };
}

/** Without the tokens that today's sa.pub verifies: no key is lost for them. */
export function notOfToday(found: readonly FoundToken[], certificatesDir: string): FoundToken[] {
  const today = todaysSaPub(certificatesDir);
  if (!today) return [...found];
  const verifies = tokenVerifier(today);
  return found.filter(({ jwt }) => !verifies(jwt.text));
}

/** Keeps a few tokens of each key, and the newest one of kube-system: it shows which key was in use last. */
class Few {
  readonly found: FoundToken[] = [];
  readonly #kept = new Map<string, number>();
  #newest = 0;

  /** Whether the text is a token. */
  add(text: string, trusted: boolean): boolean {
    const jwt = readJwt(text);
    if (!jwt) return false;
    const key = `${jwt.kid} ${trusted}`;
    const kept = this.#kept.get(key) ?? 0;
    const newest = trusted && jwt.issuedAt > this.#newest;
    if (newest) this.#newest = jwt.issuedAt;
    if (kept >= ENOUGH && !newest) return true;
    this.found.push({ jwt, trusted });
    this.#kept.set(key, kept + 1);
    return true;
  }
}

function fromSecrets(data: EtcdData, few: Few): { secrets: number; encrypted: number } {
  const prefix = `${registryPrefix(data)}/secrets/`;
  const counts = { secrets: 0, encrypted: 0 };
  for (const key of data.keys(prefix)) {
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
    .flatMap((uid) => volumeFiles(`${podsDir}/${uid}/volumes`).map((path) => few.add(smallText(path, MAX_SIZE) ?? "", isTrusted(uid))))
    .filter(Boolean).length;
}

/** The files that a pod sees; the kubelet's own ones begin with two dots. */
function volumeFiles(volumes: string): string[] {
  return PLUGINS.flatMap((plugin) => list(`${volumes}/${plugin}`).map((name) => `${volumes}/${plugin}/${name}`)).flatMap((volume) =>
    list(volume).flatMap((name) => (name.startsWith("..") ? [] : [`${volume}/${name}`])),
  );
}

/** Tokens of other nodes, a line each. */
function fromFile(path: string, few: Few): number {
  const text = readText(path);
  if (text === undefined) throw new Fail(`There is no "${path}"`, { hint: "a file with old tokens, a line each: --token-file FILE" });
  return text.split("\n").filter((line) => few.add(line, false)).length;
}
