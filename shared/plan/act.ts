/**
 * The acts of a step of a plan, as data: the page, `repair`, a playbook and the lab are made of it. Nodes are names. A file
 * without a folder lies in the kit's folder; NODE in its path is the name of the node that gets it.
 */

/** Typed as root in the kit's folder of each of these nodes. */
export interface Typed {
  do: "type";
  on: string[];
  command: string;
  /** On all of them at the same time. */
  sideBySide: boolean;
  /** Its output on stdout is the line of a later `type-printed`. */
  keeps?: true;
  /** It asks, or shows something once: it needs a terminal of its own. */
  terminal?: true;
}

/** Types the line that the step `keptBy` has printed. */
export interface TypedPrinted {
  do: "type-printed";
  on: string[];
  /** "3a". */
  keptBy: string;
  sideBySide: boolean;
  /** On these nodes other keys are in the way: `--move-aside` stands behind the line. */
  moveAside: string[];
  /** If nothing was printed, there is nothing to type. */
  mayBeNone: boolean;
}

/** Brings the kit, also over an earlier one. */
export interface BringKit {
  do: "kit";
  to: string[];
}

/** From node to node, with owner and mode. */
export interface Carry {
  do: "carry";
  from: string;
  to: string[];
  files: string[];
  /** True if one of the files lets its owner join as a node, or decrypt the bundle of the keys. */
  secret: boolean;
  /** A file that is there already stays. */
  keep?: true;
}

/** To the operator's machine. */
export interface Fetch {
  do: "fetch";
  from: string;
  file: string;
}

/** The transcripts of these nodes, NODE.tar each, into a folder of another one. */
export interface Gather {
  do: "gather";
  from: string[];
  to: string;
  into: string;
}

export type Act = Typed | TypedPrinted | BringKit | Carry | Fetch | Gather;

/** Names of nodes at which the act is done. */
export function actsOn(act: Act): readonly string[] {
  return "on" in act ? act.on : act.do === "gather" ? act.from : act.do === "fetch" ? [act.from] : act.to;
}

/** Files that let their owner join as a node, or decrypt the bundle of the keys. */
export const isSecret = (files: readonly string[]) =>
  files.some((one) => /(^|\/)(token|passphrase)$/.test(one));
