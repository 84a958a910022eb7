/** The one file that is carried to the workers: a bootstrap token, and under it the CA in PEM, so that nobody has to be asked for it. */
import { resolve } from "node:path";
import { TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import { Fail } from "../fail.ts";
import { exists, readText, removeFile, writeFile } from "../files/files.ts";
import { certInfo, certificatesIn } from "../pki/certificate.ts";

/** Its path, from the folder the script is run in. */
export function tokenFile(file: string): string {
  return resolve(process.env.PWD ?? ".", file);
}

export function writeTokenFile(file: string, { token, ca }: { token: string; ca: string }) {
  writeFile(tokenFile(file), `${token}\n${ca}`, {
    mode: 0o600,
    note: `a bootstrap token, valid for ${TOKEN_HOURS} h, and the CA: copy this file to the workers, scp keeps it off the screen`,
  });
}

/** The token and, of the CAs there, the one with this fingerprint. Errors: Fail where the file is not there, or of another `open`. */
export function readTokenFile(file: string, hash: string): { token: string; ca: string } {
  const text = readText(tokenFile(file));
  const hint = `copy it from the first control plane node, into this folder: scp FIRST_NODE:$PWD/${file} .`;
  if (text === undefined) throw new Fail(`There is no token file "${file}"`, { hint });
  const token = text.split("\n")[0]!.trim();
  if (!/^[a-z0-9]{6}\.[a-z0-9]{16}$/.test(token)) throw new Fail(`"${file}" holds no bootstrap token`, { hint });
  const cas = certificatesIn(text);
  const ca = cas.find((pem) => certInfo(pem).publicKeyHash === hash);
  if (ca) return { token, ca };
  throw new Fail(`The CA in "${file}" has the fingerprint "${cas.map((pem) => certInfo(pem).publicKeyHash)}", not "${hash}"`, {
    hint: "nothing was changed. The file and the line are of two runs of ./bunw scripts/03-workers.ts open: take both from the newest; if they still differ, somebody has changed the file on its way",
  });
}

/** It has done its work on this worker. */
export function dropTokenFile(file: string) {
  if (exists(tokenFile(file))) removeFile(tokenFile(file));
}
