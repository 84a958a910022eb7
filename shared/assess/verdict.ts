/** What it all comes to for a control plane node: one sentence, and the commands that come next. */
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { lackingOfExternalCa } from "../facts/external-ca.ts";
import { CERTS } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { caIsNew } from "../static-pods/restore.ts";
import { deepVerdict } from "./deep.ts";
import type { Deep, NodeVerdict } from "./report.ts";

interface SeenHere {
  known: PartialFacts;
  lostKeys: Finding[];
  damaged: boolean;
  /** The CA here is another cluster's. */
  foreign: boolean;
  deep: Deep | undefined;
}

export function controlPlaneVerdict({ known, lostKeys, damaged, foreign, deep }: SeenHere): NodeVerdict {
  const { cp, obstacle } = known;
  if (obstacle) return { verdict: `the repair cannot begin: ${obstacle.message}`, next: [obstacle.hint] };
  const lacking = cp && lackingOfExternalCa(cp);
  if (lacking)
    return {
      verdict: `the cluster's CA is external: its key never was on the control plane nodes, and it has to give ${lacking.files.join(", ")}`,
      next: lacking.steps,
    };
  if (deep) return deepVerdict(deep, known);
  if (foreign)
    return {
      verdict: "the CA here is not the cluster's, and would sign what no node trusts",
      next: [
        "./bunw scripts/00-salvage.ts --move-aside   # looks for the cluster's own; if it is nowhere, move ca.crt and ca.key away, and 00-assess again",
      ],
    };
  if (lostKeys.length > 0) {
    const names = lostKeys.map((finding) => finding.name).join(", ");
    if (lostKeys.every(({ name }) => isInternal(name)))
      return {
        rung: 0,
        verdict: `lost on this node: the keys of ${names}, which only control plane nodes trust. If no other control plane node has them, new ones cost nobody else anything`,
        next: ["./bunw scripts/01-etcd.ts --new-internal-cas", "./bunw scripts/02-control-plane.ts"],
      };
    return {
      verdict: `lost on this node: the keys of ${names}. Bring them back from another place if you can; if not: new ones, workloads run on, pods that talk to the API restart once in part 4`,
      next: [
        "systemctl stop kubelet",
        "./bunw scripts/00-assess.ts --deep      # says where each key can still be had; reads only",
        "./bunw scripts/00-salvage.ts            # looks for the old keys and puts them back",
        "./bunw scripts/01-etcd.ts --new-cas     # only if the old keys are nowhere to be found",
      ],
    };
  }
  if (damaged)
    return {
      rung: 0,
      verdict: "rung 0: the keys are here: what is missing can be issued under them",
      next: ["./bunw scripts/01-etcd.ts", "./bunw scripts/02-control-plane.ts"],
    };
  if (cp && caIsNew(cp))
    return {
      verdict: "this control plane node is repaired, with a new CA",
      next: ["./bunw scripts/03-workers.ts open", "./bunw scripts/04-sa-tokens.ts", "./bunw scripts/05-verify.ts"],
    };
  return { verdict: "nothing is damaged on this node", next: ["./bunw scripts/05-verify.ts             # looks at the whole cluster"] };
}

function isInternal(name: string): boolean {
  return CERTS.some((row) => row.internal && row.name === name);
}
