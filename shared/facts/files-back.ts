/** What brings lost files back that no script can make. */

import { command, type Todo } from "../again.ts";
import { onOther, shell } from "../shell-line.ts";
import type { LostFile } from "./lost-files.ts";

const KUBELET_CA = "--kubelet-certificate-authority";
const SAME_CA = "after part 1, if the cluster's CA signs the kubelets' serving certificates (serverTLSBootstrap)";

/** What brings these back, the surest way first. `mounted`: paths that a process still has; `others`: other control plane nodes. */
export function restoreCommands(
  lost: readonly LostFile[],
  { mounted, others, pki }: { mounted: readonly string[]; others: readonly string[]; pki: string },
): Todo[] {
  const files = lost.filter(({ kind }) => kind !== "socket");
  const sockets = lost.filter(({ kind, servedBy }) => kind === "socket" && servedBy === undefined);
  const paths = files.map(({ path }) => path.slice(1));
  const fromOthers = others.slice(0, 1).map((name) => ({
    command: `${onOther(name, shell`tar -C / -cf - ${paths}`)} | tar -C / -xpkf -`,
    note: `${others.join(", ")}: mostly the same there`,
  }));
  return [
    ...(mounted.length > 0 ? [{ command: command("00-salvage files"), note: `still mounted: ${mounted.join(", ")}` }] : []),
    ...(files.length > 0
      ? [...fromOthers, { command: command("00-salvage files --backup DIR"), note: "DIR: your own copies of them" }]
      : []),
    ...(files.length > 0 ? [{ command: command("00-salvage disk"), note: "where nobody has a copy; for you to look at" }] : []),
    ...files.flatMap(({ path, namedBy }) =>
      namedBy === KUBELET_CA ? [{ command: shell`install -D -m 644 ${pki}/ca.crt ${path}`, note: SAME_CA }] : [],
    ),
    ...(sockets.length > 0 ? [{ command: `start what serves ${sockets.map(({ path }) => path).join(", ")}` }] : []),
  ];
}
