/**
 * A loopback address for this test file alone. Test files run in parallel, also those of another run on this
 * machine.
 */

/**
 * Nobody serves there: it only shows that the address is taken. Above 1024, as not everybody who runs the
 * tests is root.
 */
const TAKEN_AT = 20_000;

/**
 * The first free one of 127.64.0.11 to 127.127.255.11, but for 127.77.*, where nobody may answer; `from` says
 * where to begin.
 */
export function ownAddress(from = process.pid): string {
  for (let number = from; ; number++) {
    const [second, third] = [64 + ((number >> 8) & 63), number & 255];
    const address = `127.${second}.${third}.11`;
    if (second !== 77 && take(address)) return address;
  }
}

/** A server's start that refuses the addresses where nobody may answer: other test files, in other processes, rely on it. */
export function elsewhere<T>(start: T): T {
  const refusing = (options: { hostname?: string }) => {
    if (options.hostname?.startsWith("127.77."))
      throw new Error(`nobody may answer at ${options.hostname}: serve at the test's own address`);
    return (start as (options: object) => unknown)(options);
  };
  return refusing as T;
}

/** Until this process ends. */
function take(hostname: string): boolean {
  try {
    Bun.listen({ hostname, port: TAKEN_AT, socket: { data: () => undefined } }).unref();
    return true;
  } catch (err) {
    if (err instanceof Error && "code" in err && err.code === "EADDRINUSE") return false;
    throw err;
  }
}
