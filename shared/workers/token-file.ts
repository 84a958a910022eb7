/** The file that the operator copies to the workers: a bootstrap token, and under it the CA in PEM, so that no server is asked for it. */
import { TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import { Fail } from "../fail.ts";
import { exists, readText, removeFile } from "../files/files.ts";
import { writeTyped } from "../files/operator-files.ts";
import { typed } from "../options.ts";
import { certificatesIn } from "../pki/certificate.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { shell } from "../shell-line.ts";

export function writeTokenFile(file: string, { token, ca }: { token: string; ca: string }) {
  writeTyped(file, `${token}\n${ca}`, {
    mode: 0o600,
    note: `a bootstrap token, valid for ${TOKEN_HOURS} h, and the CA: copy this file to the workers with scp, so that the token is never on a screen`,
  });
}

/** The token, and the CA: each certificate in the file has one of these fingerprints. Errors: Fail if there is none, or it is from another `open`. */
export function readTokenFile(file: string, hashes: readonly string[]): { token: string; ca: string } {
  const text = readText(typed(file));
  const hint = shell`copy it from the first control plane node, into this folder: scp FIRST_NODE:$PWD/${file} .`;
  if (text === undefined) throw new Fail(`There is no token file "${file}"`, { hint });
  const token = text.split("\n")[0]!.trim();
  if (!/^[a-z0-9]{6}\.[a-z0-9]{16}$/.test(token)) throw new Fail(`"${file}" holds no bootstrap token`, { hint });
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
