/**
 * Makes text safe for a terminal, and for a page. Many of our lines contain other people's words: an API's
 * answer, the names in a request, a container's name. Characters that a terminal obeys are replaced, and long
 * lines are cut.
 */

/**
 * C0 and C1 (but not the newline), DEL, characters that change the direction of writing, line separators, and
 * invisible characters. A stranger's escape sequence loses its escape, and only letters are left.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
const OBEYED = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The most characters in one message: enough for a list of all nodes of a large cluster. */
const LONGEST = 100_000;

/** The same for a stranger's sentence. */
const STRANGERS = 500;

/** The most items that get a line or a word of their own. */
export const FEW = 20;

/**
 * Text for the terminal: newlines stay, any other character that a terminal obeys is shown as `\u001b`. JSON
 * stays JSON.
 */
export function plain(text: string, most = LONGEST): string {
  const shown = text.replace(OBEYED, (character) =>
    character === "\t" ? " " : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return cut(shown, most);
}

/** The same as one line: text inside our sentence must not look like another sentence. */
export function plainLine(text: string): string {
  return plain(text).replaceAll("\n", "\\n");
}

/** Another's sentence, short and in one line, to be put into one of ours. */
export function quoteUntrusted(text: string): string {
  return cut(plainLine(text.trim()), STRANGERS);
}

/**
 * Anybody's text as text of a page, also in an attribute: complete, but without characters that change the
 * direction of writing.
 */
export function asHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return plain(text, Number.POSITIVE_INFINITY).replaceAll(/[&<>"']/g, (character) => entities[character]!);
}

/** The first names of a list; the others are counted. */
export function listed(names: readonly string[]): string {
  return `${names.slice(0, FEW).join(", ")}${names.length > FEW ? ` and ${names.length - FEW} more` : ""}`;
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}… (${text.length - most} more characters)`;
}
