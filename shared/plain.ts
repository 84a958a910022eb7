/**
 * Text for a terminal. Much of what is said holds words of others: an API's answer, a request's names, a container's. A terminal obeys some characters,
 * so none of those gets there; and a line is never without end.
 */

/**
 * C0 and C1 (but for the newline), DEL, what turns the direction of writing, line separators, and what cannot be seen. A stranger's escape sequence
 * loses its escape, and is then letters.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const OBEYED = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The most letters in one thing that is said: a list of all nodes of a large cluster has its place. */
const LONGEST = 100_000;

/** The same of a stranger's sentence. */
const STRANGERS = 500;

/** Up to so many, each one is worth a line or a word of its own. */
export const FEW = 20;

/** Ready for the terminal: newlines stay, all else that a terminal obeys is shown as `\u001b`. What is JSON before is JSON after. */
export function plain(text: string, most = LONGEST): string {
  const shown = text.replace(OBEYED, (character) =>
    character === "\t" ? " " : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return cut(shown, most);
}

/** The same as one line: what stands in a sentence of ours must not look like another one. */
export function plainLine(text: string): string {
  return plain(text).replaceAll("\n", "\\n");
}

/** A sentence of somebody else's, to be put into one of ours: one line, and short. */
export function strangers(text: string): string {
  return cut(plainLine(text.trim()), STRANGERS);
}

/** The first names of a list; the others are counted. */
export function listed(names: readonly string[]): string {
  return `${names.slice(0, FEW).join(", ")}${names.length > FEW ? ` and ${names.length - FEW} more` : ""}`;
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}… (${text.length - most} more letters)`;
}
