/** What a printed line writes on the machine on which it is typed, and whom its ssh takes for a node. */

/** What ssh types on another machine is not written here. */
function withoutRemote(line: string): string {
  return line.replaceAll(/(?:'(?:[^']|'\\'')*'|"(?:[^"\\]|\\.)*")(?=\s|$|;|\))/g, (words) =>
    /^["']?(?:\$d|\$\(mktemp)/.test(words) ? words : "REMOTE",
  );
}

/** Where a line writes on the machine on which it is typed; a folder of `mktemp -d` is none of these. */
export function writesOf(line: string): string[] {
  const own = withoutRemote(
    line
      .replaceAll("2>&1", "")
      .replaceAll(/\d?> ?\/dev\/null/g, "")
      .replace(/ {3}#.*/, ""),
  );
  const isPrivate = /\bd=\$\(mktemp -d(?: [^)]*)?\)/.test(own);
  const places = [
    ...own.matchAll(/(?<![<>=-])>{1,2} ?(\S+)/g),
    ...own.matchAll(/\b(?:scp|cp)\b.* (\S+)(?:$| &&|;)/g),
    ...own.matchAll(/\btar (?:-C \S+ )?-x\w* ?.*?(\S+)$/g),
    ...own.matchAll(/\bmkdir (?:-\S+ |\d+ )*(\S+)/g),
  ].map(([, place]) => place!);
  const isInFolder = (place: string) => isPrivate && /^"?\$d\b/.test(place);
  // a file of another machine
  return places.filter((place) => !isInFolder(place) && !/^\S+@\S+:/.test(place));
}

/** A worker's address in a line of ssh or scp whose host key is not compared with that of its name. */
export function unnamed(line: string, workers: Record<string, string>): string[] {
  const [, listed = ""] = / # NODE: (.*)/.exec(line) ?? [];
  const calls = line.split(/(?=\b(?:ssh|scp) )/).filter((call) => /^(?:ssh|scp) /.test(call));
  return Object.entries(workers).flatMap(([name, address]) => [
    ...listed.split(", ").filter((one) => one === address),
    ...calls.filter(
      (call) =>
        new RegExp(`@'?\\[?${address.replaceAll(".", "\\.")}\\b`).test(call) &&
        !call.includes(`-o HostKeyAlias=${name} `),
    ),
  ]);
}
