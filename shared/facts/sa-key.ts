/** Whether the service-account key is new, and which pods started late enough to use nothing from before the repair. */

import { readText, stat } from "../files/files.ts";
import { madeAt, publicKeysIn } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { newSaKeySince, oldSaKeys, serviceAccountKeyId } from "../pki/sa-keys.ts";
import { caIsNew } from "./ca-copies.ts";
import type { ControlPlaneNode } from "./control-plane-node.ts";
import { readEvidence } from "./evidence.ts";
import type { TrustSeen } from "./next.ts";

/**
 * Whether sa.key is new, as far as this node knows: part 1 has marked it, or the old public key is kept beside it, or all tokens in this
 * node's pods that are older than sa.pub were signed by another key. A key that was put back is not new.
 */
export function saKeyIsNew({ facts, node }: Pick<ControlPlaneNode, "facts" | "node">): boolean {
  const pki = facts.certificatesDir;
  if (facts.externalSigner) return false;
  if (oldSaKeys(pki).length > 0) return true;
  const [pub, since] = [readText(`${pki}/sa.pub`), stat(`${pki}/sa.pub`)?.modified];
  if (!pub || !since) return false;
  if (newSaKeySince(pub)) return true;
  const own = new Set(publicKeysIn(pub).map(serviceAccountKeyId));
  const { tokens } = readEvidence({ data: undefined, node, certificatesDir: pki });
  const older = tokens.filter(({ issuedAt }) => issuedAt > 0 && issuedAt * 1000 < since.getTime());
  return older.length > 0 && older.every(({ kid }) => !own.has(kid));
}

/** Which of the two that kubelets and pods trust is new: so much of the rest has something to do. */
export function trustSeen(cp: ControlPlaneNode): TrustSeen {
  return { caIsNew: caIsNew(cp), saKeyIsNew: saKeyIsNew(cp) };
}

/** A pod that started after this time has nothing from before the repair: neither the old CA, nor a token of an old key. */
export function trustSince(cp: ControlPlaneNode): Date {
  const pki = cp.facts.certificatesDir;
  const marked = newSaKeySince(readText(`${pki}/sa.pub`) ?? "");
  const moments = [madeAt(clusterCa(pki)), ...(saKeyIsNew(cp) ? [marked ?? stat(`${pki}/sa.pub`)?.modified ?? new Date()] : [])];
  return new Date(Math.max(...moments.map(Number)));
}
