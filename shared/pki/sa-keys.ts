/**
 * The service-account keys on this node: the pair sa.key and sa.pub, whether it is a new one, and the public halves of old keys beside it.
 * Part 1 leaves a mark where it makes a new pair. The tokens of this node's pods show a new pair, too, but only until their kubelet has
 * renewed them, and pods on other nodes keep theirs for longer.
 */
import { Fail } from "../fail.ts";
import { readText, removeFile } from "../files/files.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { shell } from "../shell-line.ts";
import { hashIn, publicKeysIn } from "./certificate.ts";
import { examineServiceAccountKey } from "./examine.ts";

/** The `kid` of tokens a service-account key signs: base64url(SHA-256(SPKI DER)), kubernetes' pkg/serviceaccount/jwt.go. */
export function serviceAccountKeyId(publicPem: string): string {
  return Buffer.from(hashIn(publicPem).slice("sha256:".length), "hex").toString("base64url");
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
