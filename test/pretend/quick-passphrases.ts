/**
 * age makes a key of a passphrase in about a second, so that nobody tries many of them. In tests it takes a
 * millisecond: they try what is done with it. Scripts in processes of their own, kits, and the lab's
 * age-equal.ts have age's own factor.
 */
export const SEALED = /\/shared\/hand-over\/sealed\.ts$/;

const SLOW = "const SCRYPT_LOG_N = 18;";

/** The text of that module. Errors: the factor stands there in another way, and would be left as it is. */
export function quickPassphrases(text: string): string {
  if (!text.includes(SLOW)) throw new Error(`sealed.ts has no "${SLOW}"`);
  return text.replace(SLOW, "const SCRYPT_LOG_N = 10;");
}
