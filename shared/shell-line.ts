/**
 * Lines that an operator types or pastes: each name and path in them is one word to the shell, whatever it holds. Names are other people's:
 * of pods, nodes and members, and of the files that their flags name.
 */
import { plainLine } from "./plain.ts";

/** One word, in one line; what needs no quotes gets none. What a terminal obeys is written as bash reads it: $'\u001b'. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  const isShown = plainLine(text) === text;
  return isShown ? programWord(text) : `$'${plainLine(text.replace(/[\\']/g, "\\$&").replaceAll("\t", "\\t"))}'`;
}

/** A shell program of ours as one word, its lines as they are: `sh -c WORD`. Names go through `shellWord`. */
export function programWord(program: string): string {
  return `'${program.replaceAll("'", `'\\''`)}'`;
}

/** shell`rm -r ${path}`: the text is the shell's, each value is a word, each list as many words. */
export function shell(texts: TemplateStringsArray, ...values: readonly (string | readonly string[])[]): string {
  const words = values.map((value) => (typeof value === "string" ? [value] : value).map(shellWord).join(" "));
  return String.raw({ raw: texts }, ...words);
}

/** A line for root on another machine. Its shell reads the line once more, so one with quotes in it is a word here. */
export function onOther(name: string, line: string): string {
  return `${shell`ssh root@${name}`} ${/^[\w@%+=:,./ -]+$/.test(line) ? line : shellWord(line)}`;
}
