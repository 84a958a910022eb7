/**
 * A repair's open ends on this node, until somebody closes them. 00-assess and 05-verify use this one list.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { choiceOf } from "../facts/lost-files.ts";
import { exists } from "../files/files.ts";
import { standIns } from "../manifests/repair-changes.ts";
import { saidAt, type Word } from "../node/word-kinds.ts";
import { wordsOf } from "../node/words.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { endGivenUp } from "../static-pods/without-files.ts";
import type { CheckRow } from "./check.ts";

type Warning = { warning: string };

/**
 * Files: replacements, paths that were given up, a second key for tokens. A word is done when its file and
 * flag are back.
 */
export function* openFiles(
  cp: ControlPlaneNode,
): Generator<Omit<CheckRow, "look"> & { look: () => Warning }> {
  for (const path of standIns(cp))
    yield {
      id: "audit-policy",
      of: path,
      look: () => ({ warning: "a replacement of this kit for the lost audit policy" }),
    };
  endGivenUp(cp);
  for (const word of wordsOf("start-without"))
    yield { id: "given-up", of: listed(word.files ?? []), look: () => givenUp(word) };
  const oldKey = oldSaPub(cp.facts.certificatesDir);
  if (exists(oldKey))
    yield {
      id: "old-service-account-key",
      of: oldKey,
      look: () => ({ warning: "old tokens are still accepted" }),
    };
}

/** Open until the API server has the flag again. */
function givenUp(word: Word): Warning {
  const means = choiceOf(`--${word.value}`);
  return {
    warning: word.files?.every((path) => exists(path))
      ? `is back, and the API server still runs without it (--${word.value}; ${means})`
      : `${saidAt(word)}: ${means}`,
  };
}
