/**
 * Makes text fit for a terminal, and for a page. Many of our lines contain other people's words: an API's
 * answer, the names in a request, a container's name. Characters that a terminal obeys are replaced, long lines
 * are cut. The last guard before a text is saved or sent: what still looks like a secret is replaced.
 */
import { createHmac, randomBytes } from "node:crypto";

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

/** The same, never cut: a program reads it, or an operator pastes it. */
export function wholeLine(text: string): string {
  return plain(text, Infinity).replaceAll("\n", "\\n");
}

/** A sentence of ours that holds words of others: short, and in one line. */
export function shortLine(text: string): string {
  return cut(plainLine(text.trim()), STRANGERS);
}

/**
 * Another's sentence, short and in one line, to be put into one of ours. A hint of ours has its alternatives on lines of
 * their own (show in run.ts): one of another's has a blank there that does not break, whatever quotes are in it.
 */
export function quoteUntrusted(text: string): string {
  return shortLine(text).replaceAll(/\. (?=(?:If|Or|Else|Where)\b)/g, ".\u00a0");
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

interface SecretForm {
  what: string;
  /** The secret is the group `secret`, or the whole match. */
  pattern: RegExp;
  /** Judges a match: a pattern cannot tell a word from a token. */
  is?: (secret: string) => boolean;
}

/** Separators of a field's name and its value, in YAML, JSON and flags. */
const IS = String.raw`["'\\]{0,3}\s{0,8}[:=]\s{0,8}["'\\]{0,3}`;

/** The beginning of a word; a newline in JSON is `\n`. */
const BEGIN = String.raw`(?:(?<![\w-])|(?<=\\[nrt]))`;

/**
 * In order: later rows do not see what an earlier one has replaced. A text may be JSON that contains another
 * text: quotes and newlines have backslashes there. No pattern has two loops over the same letters, so the time
 * is linear.
 */
// biome-ignore format: a table
const SECRET_FORMS: readonly SecretForm[] = [
  { what: "a private key",           pattern: /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^"-]*(?:-(?!----)[^"-]*){0,999}-----END [A-Z ]{0,40}PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]*)/g },
  // base64 of one; certificates and public keys begin otherwise
  { what: "a private key",           pattern: /LS0tLS1CRUdJTiB(?!DRVJU|QVUJMSUM)[A-Za-z0-9+/=]{20,}/g },
  { what: "a private key",           pattern: field("client-key-data", "[A-Za-z0-9+/=]{20,}") },
  { what: "an age identity",         pattern: /AGE-SECRET-KEY-[0-9A-Z-]+/g },
  { what: "a service account token", pattern: new RegExp(String.raw`${BEGIN}eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+`, "g") },
  { what: "a service account token", pattern: /ZXlK[A-Za-z0-9+/=]{40,}/g },
  { what: "a certificate key",       pattern: new RegExp(String.raw`certificate-?key(?:${IS}|\s)(?<secret>[0-9a-f]{64})\b`, "gi") },
  { what: "a bootstrap token",       pattern: /(?:\b|(?<=\\[nrt]))[a-z0-9]{6}\.[a-z0-9]{16}\b/g },
  { what: "a bootstrap token",       pattern: field("token-secret", String.raw`(?:[a-z0-9]{16}\b|[A-Za-z0-9+/]{22}==)`) },
  // newPassphrase() in prompt.ts
  { what: "a passphrase",            pattern: /(?:\b|(?<=\\[nrt]))(?:[0-9a-hjkmnp-tv-z]{4}-){5}[0-9a-hjkmnp-tv-z]{4}\b/g },
  // 16, 24 or 32 bytes, in an EncryptionConfiguration
  { what: "an encryption key",       pattern: field("secret", "(?:[A-Za-z0-9+/]{22}==|[A-Za-z0-9+/]{32}|[A-Za-z0-9+/]{43}=)(?![A-Za-z0-9+/=])") },
  { what: "a token",                 pattern: field("token", "[A-Za-z0-9._~+/=-]{20,4096}"), is: isRandom },
  { what: "a token",                 pattern: /--[a-z-]{0,40}token\s(?<secret>[A-Za-z0-9._~+/=-]{20,4096})/g, is: isRandom },
  { what: "a token",                 pattern: /\bBearer\s{1,3}(?<secret>[A-Za-z0-9._~+/=-]{16,4096})/g, is: isRandom },
  { what: "a password",              pattern: /\bBasic\s{1,3}(?<secret>[A-Za-z0-9+/]{8,4096}={0,2})/g, is: (secret) => /[A-Z\d=]/.test(secret) },
  { what: "a password",              pattern: field("(?:pass(?:word|wd|phrase)?|client[-_]?secret|api[-_]?key)", String.raw`[^\s"'\\,;<>{}[\]]{6,400}`), is: isPassword },
  { what: "a password",              pattern: /:\/\/[^\s:@/"'\\]{0,200}:(?<secret>[^\s@/"'\\]{1,400})(?=@)/g },
];

function field(name: string, value: string): RegExp {
  return new RegExp(`${name}${IS}(?<secret>${value})`, "gi");
}

/** Names are of short parts, or have no digits: "kube-system/default-token-x7k2p". */
function isRandom(secret: string): boolean {
  const parts = secret.split(/[^A-Za-z0-9]+/);
  return (
    UUID.test(secret) || parts.some((part) => part.length >= 16 && /\d/.test(part) && /[A-Za-z]/.test(part))
  );
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** It is no word, and no path. */
function isPassword(secret: string): boolean {
  return !/^[./]/.test(secret) && /[A-Za-z]/.test(secret) && /[\d!@#$%^&*+~]/.test(secret);
}

/** Every secret in a text, unchanged. */
export function secretsOf(text: string): { what: string; secret: string }[] {
  return SECRET_FORMS.flatMap(({ what, pattern, is }) => {
    const found = [...text.matchAll(pattern)].map((match) => match.groups?.secret ?? match[0]);
    return found.filter((secret) => is?.(secret) ?? true).map((secret) => ({ what, secret }));
  });
}

/** The text without its secrets, and what kind of secret was in it. */
export function redact(text: string): { text: string; what?: string } {
  let kind: string | undefined;
  for (const form of SECRET_FORMS)
    text = text.replaceAll(form.pattern, (match, ...rest) => {
      const secret = secretIn(match, rest);
      if (form.is && !form.is(secret)) return match;
      kind = form.what;
      return `${match.slice(0, match.length - secret.length)}<${form.what}>`;
    });
  return kind ? { text, what: kind } : { text };
}

/** The group's text is at the end of the match. */
function secretIn(match: string, rest: unknown[]): string {
  const groups = rest.at(-1);
  return typeof groups === "object" ? (groups as { secret: string }).secret : match;
}

/** New in each run, so that nobody finds a value by trying. Within a run equal values look equal. */
const SALT = randomBytes(32);

/** The replacement of a value that may be a secret: "(hidden, 3f2a91c0)". */
export function veiled(value: string): string {
  return `(hidden, ${createHmac("sha256", SALT).update(value).digest("hex").slice(0, 8)})`;
}
