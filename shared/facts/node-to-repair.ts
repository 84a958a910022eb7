/** A control plane node that is to be repaired: what must hold before anything is made, and how its PKI is treated. */
import type { ActionOptions, NewCas } from "../pki/actions.ts";
import type { ApplyOptions } from "../pki/ensure.ts";
import { refuseWrongClock } from "./clock.ts";
import { type ControlPlaneNode, readControlPlaneNode } from "./control-plane-node.ts";
import { reachedBy } from "./endpoint.ts";
import { readEvidence } from "./evidence.ts";
import { namesBefore } from "./names-before.ts";
import { refuseOwnCertificate } from "./own-certificate.ts";
import { refuseDockershim } from "./release.ts";

/** A control plane node for a repair: what it makes has dates. Errors: as `readControlPlaneNode`; Fail where this node's clock is proved wrong, and as `refuseDockershim`. */
export async function controlPlaneToRepair(typed: string | undefined, given?: string): Promise<ControlPlaneNode> {
  const cp = await readControlPlaneNode(typed, given);
  refuseDockershim(cp);
  refuseOwnCertificate(cp);
  await refuseWrongClock(cp);
  return cp;
}

/** How this node's PKI is treated. The evidence for a key is read only where the key is not sound, names from before only where one is issued. */
export function ensureOptions(cp: ControlPlaneNode, newCas?: NewCas): ApplyOptions & ActionOptions {
  const { data, node, facts, asideDir } = cp;
  const evidence = () => readEvidence({ data, node, certificatesDir: facts.certificatesDir });
  return { asideDir, newCas, evidence, alsoFor: (row) => [...namesBefore(row, cp), ...(row.name === "apiserver" ? reachedBy(cp) : [])] };
}
