/** Runs a command on this machine. Returns its output, or throws an Error with it. */
export async function sh(command: string[], options: { input?: string; cwd?: string } = {}): Promise<string> {
  const proc = Bun.spawn(command, {
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  const [stdout, stderr, code] = await Promise.all([new Response(proc.stdout).text(), new Response(proc.stderr).text(), proc.exited]);
  if (code !== 0) throw new Error(`\`${command.join(" ")}\` exited ${code}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}
