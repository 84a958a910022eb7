/**
 * Remembers what was made of a text: the scripts look at the same few files again and again, and always as
 * they are now.
 */

/** How many texts are remembered, and how many letters each may have. */
const TEXTS = 64;
const LETTERS = 64 * 1024;

/**
 * `make`, which is not called again for one of the last texts. It must give the same for the same text, and
 * nobody may change what it gave. An error is not remembered.
 */
export function memo<T>(make: (text: string) => T): (text: string) => T {
  const made = new Map<string, T>();
  return (text) => {
    const known = made.get(text);
    if (known !== undefined) return known;
    const value = make(text);
    if (text.length > LETTERS) return value;
    if (made.size === TEXTS) made.delete(made.keys().next().value!);
    made.set(text, value);
    return value;
  };
}
