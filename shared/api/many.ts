/** Many things at the same time, but not all of them. */

/**
 * Runs `action` over all items, `width` at a time, and asks for no more of them than that. The first error ends it: nothing else is begun, what
 * is under way is waited for.
 */
export async function inParallel<T>(items: Iterable<T> | AsyncIterable<T>, width: number, action: (item: T) => Promise<unknown>) {
  const queue = one(items);
  const worker = async () => {
    for await (const item of queue) await action(item);
  };
  const ends = await Promise.allSettled(Array.from({ length: width }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/** A generator, so that several can take from it, and that whoever leaves it ends it for all. */
async function* one<T>(items: Iterable<T> | AsyncIterable<T>): AsyncGenerator<T> {
  yield* items;
}
