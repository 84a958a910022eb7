/** Runs `action` without its output on stderr. */
export async function quietly<T>(action: () => Promise<T>): Promise<T> {
  const spoken = console.error;
  console.error = () => undefined;
  try {
    return await action();
  } finally {
    console.error = spoken;
  }
}
