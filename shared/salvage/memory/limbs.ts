/**
 * Finds big numbers in memory: programs hold them as 8-byte words ("limbs"), aligned, the lowest first (Go's math/big and
 * crypto/internal/fips140, OpenSSL's BIGNUM). Numbers of a key look random, most of memory does not: only stretches of random-looking words
 * are searched.
 */

/**
 * Stretches of random-looking words, at least `atLeast` bytes long: where they begin and end, in bytes. A word looks random when its lower
 * half is not zero and its upper half is 256 or more: a random word misses that once in 16 million times; counters, lengths and many
 * pointers always do.
 */
export function* randomStretches(bytes: Uint8Array, atLeast: number): Generator<{ from: number; to: number }> {
  const halves = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const needed = atLeast >> 3;
  let run = 0;
  const end = halves.length & ~1;
  for (let i = 0; i < end; i += 2) {
    if (halves[i + 1]! >= 256 && halves[i] !== 0) run++;
    else {
      if (run >= needed) yield { from: (i >> 1) * 8 - run * 8, to: (i >> 1) * 8 };
      run = 0;
    }
  }
  if (run >= needed) yield { from: (end >> 1) * 8 - run * 8, to: (end >> 1) * 8 };
}
