/**
 * The files that the operator copies to the workers: to each its own bootstrap token, and under it the CA in PEM, so that no server is asked for
 * it. `open` writes `token.d/NODE/token`; on the worker it is `token`, so that one line is right for all of them.
 */
import { basename } from "node:path";
import { ANY_WORKER, TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import { Fail } from "../fail.ts";
import { exists, list, readText, removeFile } from "../files/files.ts";
import { refuseOthers, writeTyped } from "../files/operator-files.ts";
import { typed } from "../options.ts";
import { certificatesIn } from "../pki/certificate.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { mode, say, silently } from "../run.ts";
import { shell } from "../shell-line.ts";

/** Where `open` writes the token of a node, or of ANY_WORKER. `file`: as typed. */
function tokenPlace(file: string, node: string): string {
  return node === ANY_WORKER ? file : `${file}.d/${node}/${basename(file)}`;
}

/** `make` gives each node's. What earlier runs have left there goes: those tokens are revoked. Errors: as `refuseOthers`, with none made. */
export async function writeTokenFiles(file: string, make: () => Promise<ReadonlyMap<string, string>>, ca: string) {
  for (const place of [file, `${file}.d`]) refuseOthers(typed(place), "written");
  const tokens = await make();
  await silently(async () => {
    for (const node of [ANY_WORKER, ...list(typed(`${file}.d`))]) if (!tokens.has(node)) dropTokenFile(tokenPlace(file, node));
    for (const [node, token] of tokens) {
      const whose = node === ANY_WORKER ? "" : `# ${node}\n`;
      writeTyped(tokenPlace(file, node), `${token}\n${whose}${ca}`, { mode: 0o600, folderMode: 0o700 });
    }
  });
  sayTokens(file, [...tokens.keys()]);
}

export function sayTokens(file: string, nodes: readonly string[]) {
  const verb = mode.dryRun ? "would write" : "wrote";
  const rest = `valid for ${TOKEN_HOURS} h, and the CA: copy it there with scp, so that no token is ever on a screen`;
  if (nodes.includes(ANY_WORKER))
    say(`${verb} ${file} (a bootstrap token for all workers, ${rest}. Each can ask in another's name with it)`);
  else say(`${verb} ${tokenPlace(file, "NODE")} for ${listed(nodes)} (to each its own bootstrap token, ${rest})`);
}

/**
 * The token, and the CA: each certificate in the file has one of these fingerprints. Errors: Fail if there is none, if it is another node's, or
 * from another `open`.
 */
export function readTokenFile(file: string, hashes: readonly string[], name: string): { token: string; ca: string } {
  const text = readText(typed(file));
  const hint = shell`copy it from the first control plane node, into this folder: scp FIRST_NODE:$PWD/${tokenPlace(file, name)} .`;
  if (text === undefined) throw new Fail(`There is no token file "${file}"`, { hint });
  const [token = "", second = ""] = text.split("\n").map((line) => line.trim());
  if (!/^[a-z0-9]{6}\.[a-z0-9]{16}$/.test(token)) throw new Fail(`"${file}" holds no bootstrap token`, { hint });
  const whose = /^# (\S+)$/.exec(second)?.[1] ?? name;
  if (whose !== name)
    throw new Fail(`"${file}" holds the token of "${whose}", and this node is "${name}"`, { hint: `nothing was changed; ${hint}` });
  const keys = trustedKeys(text);
  if (keys.symmetricDifference(new Set(hashes)).size === 0) return { token, ca: certificatesIn(text).join("") };
  throw new Fail(`The CA in "${file}" has the fingerprint "${[...keys].join(",")}", not "${hashes.join(",")}"`, {
    hint: "nothing was changed. The file and the join line are from two different runs of ./bunw scripts/03-workers.ts open: take both from the newest run. If they still differ, somebody has changed the file on its way",
  });
}

/** This worker no longer needs it. */
export function dropTokenFile(file: string) {
  if (exists(typed(file))) removeFile(typed(file));
}
