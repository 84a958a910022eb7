/**
 * Caches results by the text that they were made from: scripts read the same few files again and again, and
 * always see their current content.
 */

/** The number of texts, and the most letters of each. */
const TEXTS = 64;
const LETTERS = 64 * 1024;

/**
 * `make` with a cache of its last texts. It must return the same for the same text, and nobody may change its
 * result. Errors are not cached.
 */
export function memo<T>(make: (text: string) => T): (text: string) => T {
  const made = new Map<string, T>();
  return (text) => {
    const remembered = made.get(text);
    const value = remembered ?? make(text);
    if (text.length > LETTERS) return value;
    // the one that was not asked for longest goes
    if (!made.delete(text) && made.size === TEXTS) made.delete(made.keys().next().value!);
    made.set(text, value);
    return value;
  };
}
