/**
 * The service-account keys on this node: a new one, by the mark that part 1 leaves where it makes it (the tokens of this node's pods tell it, too,
 * but only until their kubelet has renewed them, and pods on other nodes hold theirs for longer), and an old one's public half beside it.
 */

import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { publicKeysIn, serviceAccountKeyId } from "./certificate.ts";

const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";

interface NewSaKey extends Mark {
  kid: string;
}

/** Before the key is written: a mark whose key never was fits no sa.pub. */
export function markNewSaKey(publicPem: string) {
  const mark: NewSaKey = { made: new Date().toISOString(), kid: serviceAccountKeyId(publicPem) };
  writeMark(MARK, mark, "for part 4: tokens of before are of another key");
}

/** Since when there is this sa.pub, where part 1 made it; undefined for every other one. */
export function newSaKeySince(saPub: string): Date | undefined {
  const mark = readMark<NewSaKey>(MARK);
  return mark && publicKeysIn(saPub).some((pem) => serviceAccountKeyId(pem) === mark.kid) ? new Date(mark.made) : undefined;
}

/** Beside sa.pub, so that the API server's own volume mounts it. */
export function oldSaPub(certificatesDir: string): string {
  return `${certificatesDir}/sa-old.pub`;
}

/** The old keys on this node, in PEM; none where they are not there or are sa.pub's own. Errors: Fail where the file holds no key. */
export function oldSaKeys(certificatesDir: string): string[] {
  const path = oldSaPub(certificatesDir);
  const text = readText(path);
  if (text === undefined) return [];
  const keys = publicKeysIn(text);
  if (keys.length === 0)
    throw new Fail(`There is no public key in "${path}"`, { hint: `the API server would not start with it: rm ${path}` });
  const today = new Set(publicKeysIn(readText(`${certificatesDir}/sa.pub`) ?? "").map(serviceAccountKeyId));
  return keys.filter((pem) => !today.has(serviceAccountKeyId(pem)));
}
