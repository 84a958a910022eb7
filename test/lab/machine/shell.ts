/** Runs a command on this machine. Returns its output, or throws an Error with it. */
export async function sh(command: string[], options: { input?: string; cwd?: string } = {}): Promise<string> {
  const proc = Bun.spawn(command, {
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(proc.stdout).text(),
    new Response(proc.stderr).text(),
    proc.exited,
  ]);
  if (code !== 0)
    throw new Error(`\`${command.join(" ")}\` exited ${code}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}

/** All of it; each whole line is heard when it comes. */
export async function textOf(
  stream: AsyncIterable<Uint8Array>,
  heard?: (line: string) => void,
): Promise<string> {
  const decoder = new TextDecoder();
  let [text, told] = ["", 0];
  for await (const piece of stream) {
    text += decoder.decode(piece, { stream: true });
    const end = text.lastIndexOf("\n") + 1;
    for (const line of end > told ? text.slice(told, end - 1).split("\n") : []) heard?.(line);
    told = Math.max(told, end);
  }
  return text;
}
