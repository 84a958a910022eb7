/** Where a sentence of our texts ends, and how many words it has: one rule for pages, help and literals. */
import { blank, lineOf, type Source, templatesOf } from "./sources.ts";

/** The most words that a sentence may have. */
export const MOST_WORDS = 25;

/** `at`: "path:line", or the script whose help it is. */
export interface Text {
  at: string;
  text: string;
}

/** Words that follow a quoted command as prose: "kubectl get nodes shows it". */
const PROSE =
  "a|after|again|and|are|as|asks|at|before|by|does|file|for|from|has|here|if|in|is|it|its|joins|makes|may|must|names|never|of|on|once|or|prints|proves|says|shows|stay|stays|that|the|then|there|to|until|was|where|which|will|with";
const PROGRAM =
  "chmod|chown|cp|crictl|df|diff|etcdctl|findmnt|git|grep|install|journalctl|kubeadm|kubectl|ls|mkdir|mount|mv|openssl|rm|rmdir|scp|sed|shred|ssh|systemctl|tar|umount|\\./bunw";

/** Shell in a text: a loop, a value of a command, and a program with its words up to prose or a mark. */
const SHELL = new RegExp(
  [
    String.raw`\bfor \w+ in [\s\S]*?; done`,
    String.raw`\b\w+=\$\((?:[^()]|\([^()]*\))*\)`,
    String.raw`(?<![\w/.-])(?:${PROGRAM})(?: (?!(?:${PROSE})\b(?!/)|[(#])[^\s]*(?<![.;:,)])(?=[ .;:,)]|$))+`,
  ].join("|"),
  "gm",
);

/** Code, a command, and a run of links or code are a word; of other links the words of their text count. */
function plain(text: string): string {
  return text
    .replace(/`[^`]*`/g, "`x`")
    .replace(SHELL, "`x`")
    .replace(/(?:(?:`x`|\[[^\]]*\]\([^)]*\)),? ?){2,}/g, "`x` ")
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
}

/** A word has a letter or a figure; "…" stands for a value. */
export function wordsOf(text: string): number {
  return plain(text)
    .split(/\s+/)
    .filter((word) => /[\p{L}\p{N}…]/u.test(word)).length;
}

/** A sentence ends at . ! or ?, or with its line; each exit code of a list is one, too. */
function sentencesOf(text: string): string[] {
  return plain(text)
    .replace(/Exit codes: (?:[^.\n]|\.\d)*/g, (list) => list.replace(/, (?=\d+ [a-z])/g, "\n"))
    .split(/(?<=[.!?]["*)]{0,3})\s+|\n|<br>/)
    .map((sentence) => sentence.trim());
}

/** "at: words: sentence" for each sentence that is too long. */
export function tooLong(texts: readonly Text[]): string[] {
  return texts.flatMap(({ at, text }) =>
    sentencesOf(text)
      .filter((one) => wordsOf(one) > MOST_WORDS)
      .map((one) => `${at}: ${wordsOf(one)} words: ${one}`),
  );
}

/** Each cell of a page's tables; what a fence holds is no table. */
export function cellsOf({ path, text }: Source): Text[] {
  const open = text.replace(/^ *```[\s\S]*?^ *```$/gm, (fence) => fence.replace(/[^\n]/g, ""));
  return open
    .split("\n")
    .flatMap((line, index) =>
      line.startsWith("|")
        ? line.split(/(?<!\\)\|/).map((cell) => ({ at: `${path}:${index + 1}`, text: cell.trim() }))
        : [],
    );
}

/** Where a paragraph of a help text begins, a row of its tables, and what is behind one. */
const HELP_BLOCK = /\n\s*\n|\n(?= {2,4}\S|\w+: {2,}|\w+: .*\n {8})|(?<=\n {2,}\S[^\n]*)\n(?=\S)/;

/** Each paragraph and each row of a script's help, on one line, without the option or the word before it. */
export function helpTexts(script: string, help: string): Text[] {
  return help
    .split(HELP_BLOCK)
    .filter((text) => !/^(?:Usage:| {4}\.\/bunw )/.test(text))
    .map((text) => text.replace(/^ {2,4}(?:--.*?(?: {2,}|\n|$)|\S.*? {2,})|^\w+: {2,}/, ""))
    .map((text) => ({ at: `${script} --help`, text: text.replace(/\s+/g, " ").trim() }))
    .filter(({ text }) => text !== "");
}

/** Each literal that holds a space, with "…" for the values of a template. */
export function literalsOf(source: Source): Text[] {
  const code = blank(source.text, { strings: false });
  const strings = [...code.matchAll(/"((?:\\.|[^"\\\n])*)"/g)].map((match) => ({
    at: `${source.path}:${lineOf(source.text, match.index)}`,
    text: match[1]!,
  }));
  const templates = templatesOf(source).map(({ at, texts }) => ({ at, text: texts.join("…") }));
  return [...strings, ...templates]
    .filter(({ text }) => text.includes(" "))
    .map(({ at, text }) => ({ at, text: text.replaceAll("\\n", "\n").replaceAll('\\"', '"') }));
}
