/**
 * What part 1 leaves where it makes a new service-account key: which one, and when. The tokens of this node's pods tell it, too, but only until
 * their kubelet has renewed them, and pods on other nodes hold theirs for longer.
 */
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
