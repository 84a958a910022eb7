/**
 * Breaks lines for the terminal: between words, never inside of one. A command of this kit counts as one word, because a
 * part of it may do more than the whole. Where the output is no terminal, each line stays whole: programs read it.
 */

/** Columns of the terminal; Infinity: no terminal. A serial console tells no width. */
export function columns(): number {
  if (!process.stdout.isTTY) return Number.POSITIVE_INFINITY;
  return process.stdout.columns || 80;
}

/** Below this, a detail goes below its name. */
const NARROW = 100;

export function isNarrow(): boolean {
  return columns() < NARROW;
}

/** Options of all scripts that take no value: the word behind one is prose. test/repo/completion.test.ts holds the list. */
export const SWITCHES: readonly string[] = [
  "all",
  "clean-up",
  "deep",
  "disarm",
  "dry-run",
  "force",
  "generate",
  "help",
  "images-later",
  "json",
  "kubeadm-config",
  "move-aside",
  "new-cas",
  "new-internal-cas",
  "new-keys",
  "no-disk",
  "one-token",
  "only-system",
  "skip-hash-check",
  "super-admin",
  "undo",
  "with-etcd",
  "with-names",
  "yes",
];

const SUB_COMMAND = "(?:approve|close|disk|files|memory|open|pack|retire|secret|unpack|worker)\\b";
const OPTION = `--(?:(?:${SWITCHES.join("|")})(?![\\w-])|[\\w-]+(?: (?!-)[\\w./,:=-]+)?)`;

/** A script with its word, its options and their values. */
const COMMAND = new RegExp(`\\./bunw scripts/[\\w-]+\\.ts(?: (?:${OPTION}|${SUB_COMMAND}))*|\\S+`, "g");

/** The command of this kit with which the text begins; "" if it begins with another word. */
export function kitCommand(text: string): string {
  const [first = ""] = text.match(COMMAND) ?? [];
  return first.startsWith("./bunw ") ? first : "";
}

/**
 * The lines of `text`, each at most `width` columns but for a longer word. Those behind the first begin with `hang`
 * blanks. Blanks at the beginning, and several between words, stay.
 */
export function wrapped(text: string, hang: number, width = columns()): string[] {
  if (text.length <= width) return [text];
  const lines: string[] = [];
  let line = "";
  let end = 0;
  for (const { 0: word, index } of text.matchAll(COMMAND)) {
    const gap = text.slice(end, index);
    end = index + word.length;
    if (line.trim() !== "" && line.length + gap.length + word.length > width) {
      lines.push(line);
      line = " ".repeat(hang) + word;
    } else line += gap + word;
  }
  return [...lines, line];
}

/** Prose has a comma, a colon or a full stop between words; inside of quotes it may be a command's. */
function isProse(text: string): boolean {
  return /[.:,] [A-Za-z]/.test(text.replaceAll(/'[^']*'|"[^"]*"/g, ""));
}

/**
 * A line to paste, with its comment. It is never broken; the comment goes onto lines of its own, as comments, where the
 * terminal is too narrow. Sentences break between words.
 */
export function pasteLines(line: string, width = columns()): string[] {
  const [, command = line, note] = /^(.*\S) +# (.*)$/.exec(line) ?? [];
  if (line.length <= width || line.trim() === "") return [line];
  const indent = /^ */.exec(line)![0].length;
  const own = isProse(command) ? wrapped(command, indent + 2, width) : [command];
  if (note === undefined) return own;
  const comment = `${" ".repeat(indent + 4)}# `;
  return [...own, ...wrapped(note, 0, width - comment.length).map((part) => `${comment}${part}`)];
}

/* Signs and colour. */

/** POSIX: the first of these that is set, and not empty; none of them is the locale "C". */
function hasUtf8({ LC_ALL, LC_CTYPE, LANG } = process.env): boolean {
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || "");
}

const IN_ASCII: Record<string, string> = {
  "√": "+",
  "‼": "!",
  "×": "x",
  "→": "->",
  "…": "...",
  "█": "#",
  "░": "-",
};

/** The same in ASCII, where the terminal's locale has no UTF-8. */
export function inLocale(text: string): string {
  return hasUtf8() ? text : text.replaceAll(/[√‼×→…█░]/g, (sign) => IN_ASCII[sign]!);
}

/** NO_COLOR (no-color.org) removes the colour, and so does a terminal that obeys nothing (`TERM=dumb`). */
export function hasColour(): boolean {
  return !process.env.NO_COLOR && process.env.TERM !== "dumb";
}
