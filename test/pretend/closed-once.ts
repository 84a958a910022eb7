/** A server that is silent at the first question: it closes that connection without a word, and then `next` serves. */
export function closedOnce(at: { hostname: string; port: number }, next: () => Disposable): Disposable {
  let served: Disposable | undefined;
  const first = Bun.listen({
    ...at,
    socket: {
      open(socket) {
        socket.end();
        first.stop(true);
        served = next();
      },
      data() {},
    },
  });
  return { [Symbol.dispose]: () => (served ? served[Symbol.dispose]() : void first.stop(true)) };
}
