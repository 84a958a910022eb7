/**
 * The service-account keys on this node: the pair sa.key and sa.pub, whether it is a new one, and the public halves of old keys beside it.
 * Part 1 leaves a mark where it makes a new pair. The tokens of this node's pods show a new pair, too, but only until their kubelet has
 * renewed them, and pods on other nodes keep theirs for longer.
 */
import { attempt, Fail } from "../fail.ts";
import { readText, removeFile } from "../files/files.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { shell } from "../shell-line.ts";
import { hashIn, keyMatches, privateKeyOf, publicKeyOf, publicKeysIn } from "./certificate.ts";
import { keyPath, SERVICE_ACCOUNT_KEYS } from "./certs.ts";
import { type Finding, readable } from "./examine.ts";
import type { Verdict } from "./judge.ts";

/** The `kid` of tokens a service-account key signs: base64url(SHA-256(SPKI DER)), kubernetes' pkg/serviceaccount/jwt.go. */
export function serviceAccountKeyId(publicPem: string): string {
  return Buffer.from(hashIn(publicPem).slice("sha256:".length), "hex").toString("base64url");
}

/** Looks at the key pair that signs service-account tokens. `sa.pub` may hold old keys as well, as it does while keys are changed. */
export function examineServiceAccountKey(certificatesDir: string, { externalSigner = false } = {}): Finding {
  const paths = [keyPath(SERVICE_ACCOUNT_KEYS, certificatesDir), `${certificatesDir}/${SERVICE_ACCOUNT_KEYS.file}.pub`];
  if (externalSigner) return { name: SERVICE_ACCOUNT_KEYS.name, paths, state: "ok", detail: "an external signer has the key" };
  const [key, pub] = paths.map(readable);
  const verdict = serviceAccountVerdict(key, pub);
  return {
    name: SERVICE_ACCOUNT_KEYS.name,
    paths,
    state: verdict?.[0] ?? "ok",
    detail: verdict?.[1] ?? "sa.pub is the public half of sa.key",
  };
}

/** Judges the pair that signs service-account tokens, wherever it was read from. */
export function serviceAccountVerdict(key: string | undefined, pub: string | undefined): Verdict {
  if (key === undefined)
    return pub === undefined ? ["missing", "neither sa.key nor sa.pub is there"] : ["key missing", "sa.pub is there without sa.key"];
  if (attempt(() => privateKeyOf(key)) instanceof Fail) return ["unreadable", "sa.key cannot be read"];
  if (pub === undefined) return ["public key missing", "sa.key is there without sa.pub"];
  if (attempt(() => publicKeyOf(pub)) instanceof Fail) return ["unreadable", "sa.pub cannot be read"];
  const keys = pub.split(/(?<=-----END [A-Z ]+-----)\s*/).filter((block) => block.includes("BEGIN"));
  return keys.some((one) => attempt(() => keyMatches(one, key)) === true)
    ? undefined
    : ["does not match its key", "sa.pub does not hold the public half of sa.key"];
}

/** sa.pub on this node, where its sa.key is there, too: its tokens are not old. */
export function todaysSaPub(certificatesDir: string): string | undefined {
  return examineServiceAccountKey(certificatesDir).state === "ok" ? readText(`${certificatesDir}/sa.pub`) : undefined;
}

const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";

/** Called before the key is written: a mark without its key fits no sa.pub. */
export function markNewSaKey(publicPem: string) {
  const mark = { made: new Date().toISOString(), kid: serviceAccountKeyId(publicPem) };
  writeMark(MARK, mark, "for part 4: older tokens were signed by another key");
}

/** When no running pod is older than the key, nobody reads the mark any more. */
export function dropNewSaKeyMark() {
  removeFile(MARK);
}

/** When part 1 made this sa.pub; undefined for every other one. */
export function newSaKeySince(saPub: string): Date | undefined {
  const mark = readMark<Mark & { kid: string }>(MARK);
  return mark && publicKeysIn(saPub).some((pem) => serviceAccountKeyId(pem) === mark.kid) ? new Date(mark.made) : undefined;
}

/** Where old keys are kept: beside sa.pub, so that the API server's own volume mounts them. */
export function oldSaPub(certificatesDir: string): string {
  return `${certificatesDir}/sa-old.pub`;
}

/** The old keys on this node, in PEM, without those that sa.pub holds as well. Errors: Fail where the file holds no key. */
export function oldSaKeys(certificatesDir: string): string[] {
  const path = oldSaPub(certificatesDir);
  const text = readText(path);
  if (text === undefined) return [];
  const keys = publicKeysIn(text);
  if (keys.length === 0)
    throw new Fail(`There is no public key in "${path}"`, { hint: shell`the API server would not start with it: rm ${path}` });
  const today = new Set(publicKeysIn(readText(`${certificatesDir}/sa.pub`) ?? "").map(serviceAccountKeyId));
  return keys.filter((pem) => !today.has(serviceAccountKeyId(pem)));
}
