/** A stranger's keys in kubeadm's usual folder, as 00-assess and 05-verify say it. */

import type { PartialFacts } from "../facts/control-plane-node.ts";
import { lacksItsLink, saidOfFolder, strangeFolder } from "../facts/usual-folder.ts";
import type { Node } from "../node/node.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";
import type { Answer, CheckRow } from "./check.ts";

/** No row where every path of kubeadm leads to the cluster's keys. */
export function usualFolderRows(
  known: Pick<PartialFacts, "cluster" | "facts" | "rescue" | "certificatesDir">,
  node: Node,
): (Omit<CheckRow, "look"> & { look: () => Answer })[] {
  const strange = strangeFolder(known, node);
  if (!strange && lacksItsLink(known))
    return [{ id: "usual-folder", of: CERTIFICATES_DIR, look: () => NO_LINK }];
  if (!strange) return [];
  const { path, neededFor } = strange;
  const sentence = saidOfFolder(strange);
  const answer = neededFor
    ? {
        failed: `${sentence}. "${neededFor}" is read there, so it stays until you have moved that`,
        mend: shell`ls -l ${path}: move what is yours to ${strange.certificatesDir}, then part 1 again`,
      }
    : { failed: `${sentence}. Part 1 moves it aside` };
  return [{ id: "usual-folder", of: path, look: () => answer }];
}

const NO_LINK = {
  warning: "a run has moved it aside and has made no link in its place. Part 1 makes the link",
};
