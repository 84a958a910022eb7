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

/** The value of `action`, and what it printed. One at a time: the console is caught for the whole process. */
export async function caught<T>(
  action: () => Promise<T>,
): Promise<{ value: T; stdout: string; stderr: string }> {
  const [log, error] = [console.log, console.error];
  const lines: Record<"stdout" | "stderr", string[]> = { stdout: [], stderr: [] };
  console.log = (text: unknown) => void lines.stdout.push(String(text));
  console.error = (text: unknown) => void lines.stderr.push(String(text));
  try {
    const value = await action();
    return { value, stdout: `${lines.stdout.join("\n")}\n`, stderr: `${lines.stderr.join("\n")}\n` };
  } finally {
    Object.assign(console, { log, error });
  }
}
