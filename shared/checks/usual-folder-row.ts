/** Shared keys that are not the cluster's where kubeadm, a static pod or the kubelet looks, as 00-assess and 05-verify say it. */

import { foreignKeyFlags } from "../facts/named-shared-keys.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { lacksItsLink, type StrangeFolder, strangeFolder, strangeFolderText } from "../facts/usual-folder.ts";
import type { Node } from "../node/node.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";
import type { Answer, CheckRow } from "./check.ts";

type KeyFacts = Pick<PartialFacts, "cluster" | "facts" | "rescue" | "certificatesDir">;
type Row = Omit<CheckRow, "look"> & { look: () => Answer };

/** No row where every path of kubeadm leads to the cluster's keys. */
export function sharedKeyRows(keyFacts: KeyFacts, node: Node): Row[] {
  const folder = strangeFolder(keyFacts, node);
  return [...usualFolderRows(keyFacts, folder), ...namedRows(keyFacts, node, folder)];
}

function usualFolderRows(keyFacts: KeyFacts, strange: StrangeFolder | undefined): Row[] {
  if (!strange && lacksItsLink(keyFacts))
    return [{ id: "usual-folder", of: CERTIFICATES_DIR, look: () => NO_LINK }];
  if (!strange) return [];
  const { path, neededFor } = strange;
  const sentence = strangeFolderText(strange);
  const answer = neededFor
    ? {
        failed: `${sentence}. "${neededFor}" is read there, so it stays until you have moved that`,
        mend: shell`ls -l ${path}: move what is yours to ${strange.certificatesDir}, then part 1 again`,
      }
    : { failed: `${sentence}. Part 1 moves it aside` };
  return [{ id: "usual-folder", of: path, look: () => answer }];
}

const NO_LINK = {
  warning: `${CERTIFICATES_DIR} is missing: a run has moved it aside and has made no link in its place. Part 1 makes the link`,
};

function namedRows(keyFacts: KeyFacts, node: Node, folder: StrangeFolder | undefined): Row[] {
  return foreignKeyFlags(keyFacts, node, folder).map(({ path, namedBy, own, effect, byPart1 }) => {
    const failed = `${namedBy} names it, and its key is not the cluster's, which is in ${own}: ${effect}`;
    const mend = byPart1
      ? {}
      : { mend: shell`diff ${path} ${own}: who changed it? Put the cluster's into it` };
    return { id: byPart1 ? "kubelet-ca" : "named-key", of: path, look: () => ({ failed, ...mend }) };
  });
}
