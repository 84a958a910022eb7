/** An act of a repair that stopped, as its script has said it. */
import { quoteUntrusted } from "../plain.ts";
import type { Output } from "./host.ts";

/** Where an act stopped, and why. */
export interface Stopped {
  node: string;
  /** The command as a person types it on that node. */
  command: string;
  reason: string;
  /** This program's own hint. */
  hint?: string | undefined;
  /** The hint that the node has printed: whoever is root there may have written it. */
  nodesHint?: string | undefined;
  exitCode: number;
}

export function stoppedAt(node: string, command: string, { exitCode, stderr }: Output): Stopped {
  const reason = /^error: (.*)$/m.exec(stderr)?.[1] ?? stderr.trim().split("\n").at(-1) ?? "";
  const hint = /^hint: (.*(?:\n {2,}.*)*)/m.exec(stderr)?.[1]?.replaceAll(/\n {2,}/g, " ");
  return { node, command, exitCode, reason: quoteUntrusted(reason), nodesHint: hint && quoteUntrusted(hint) };
}
