/** Many at a time, and not more. */
/** After the first error no other is started, and running ones are waited for. */
export async function inParallel<T>(
  items: Iterable<T> | AsyncIterable<T>,
  width: number,
  action: (item: T) => Promise<unknown>,
) {
  // one generator for all workers: each takes from it, and the first that leaves it ends it for all
  const queue = (async function* () {
    yield* items;
  })();
  const worker = async () => {
    for await (const item of queue) await action(item);
  };
  const ends = await Promise.allSettled(Array.from({ length: width }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}
