/** `open` writes the files that token-file.ts reads on the workers: to each node its own bootstrap token. */
import { ANY_WORKER, TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import { list } from "../files/files.ts";
import { refuseOthers, writeTyped } from "../files/operator-files.ts";
import { typed } from "../options.ts";
import { listed } from "../plain.ts";
import { mode, say, silently } from "../run.ts";
import { dropTokenFile, tokenPlace } from "./token-file.ts";

/**
 * `make` gives each node's. What earlier runs have left there goes: those tokens are revoked. Errors: as
 * `refuseOthers`, with none made.
 */
export async function writeTokenFiles(
  file: string,
  make: () => Promise<ReadonlyMap<string, string>>,
  ca: string,
) {
  for (const place of [file, `${file}.d`]) refuseOthers(typed(place), "written");
  const tokens = await make();
  await silently(async () => {
    for (const node of [ANY_WORKER, ...list(typed(`${file}.d`))])
      if (!tokens.has(node)) dropTokenFile(placeFor(file, node));
    for (const [node, token] of tokens) {
      const whose = node === ANY_WORKER ? "" : `# ${node}\n`;
      writeTyped(placeFor(file, node), `${token}\n${whose}${ca}`, { mode: 0o600, folderMode: 0o700 });
    }
  });
  sayTokens(file, [...tokens.keys()]);
}

export function sayTokens(file: string, nodes: readonly string[]) {
  const verb = mode.dryRun ? "would write" : "wrote";
  const rest = `valid for ${TOKEN_HOURS} h, and the CA: copy it there with scp, so that no token is ever on a screen`;
  if (nodes.includes(ANY_WORKER))
    say(
      `${verb} ${file} (a bootstrap token for all workers, ${rest}. Each can ask in another's name with it)`,
    );
  else
    say(
      `${verb} ${tokenPlace(file, "NODE")} for ${listed(nodes)} (to each its own bootstrap token, ${rest})`,
    );
}

function placeFor(file: string, node: string): string {
  return node === ANY_WORKER ? file : tokenPlace(file, node);
}
