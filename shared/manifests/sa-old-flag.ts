/**
 * A second key with which kube-apiserver checks service-account tokens: the old sa.pub, computed from old tokens. With it, old tokens stay
 * valid beside the new ones until part 4 is finished. The flag may be given several times; only sa.key signs.
 */
import type { Manifest } from "../objects/objects.ts";
import { oldSaKeys, oldSaPub } from "../pki/sa-keys.ts";
import { commandOf, flags } from "./command.ts";

const FLAG = "--service-account-key-file";

/** Beside it, the API server refuses `FLAG`: an external signer says which keys count. */
export const SIGNER_FLAG = "service-account-signing-endpoint";

/** The API server's manifest with the flag if sa-old.pub exists, and without it if not; the same object if nothing has to change. */
export function fitOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (oldSaKeys(certificatesDir).length === 0 || flags(commandOf(manifest)).get(SIGNER_FLAG) !== undefined)
    return withoutOldSaKey(manifest, certificatesDir);
  if (checksByOldSaKey(manifest, certificatesDir)) return manifest;
  const command = commandOf(manifest);
  const last = command.findLastIndex((argument) => argument.startsWith(`${FLAG}=`));
  return withCommand(manifest, command.toSpliced(last + 1 || command.length, 0, word(certificatesDir)));
}

export function checksByOldSaKey(manifest: Manifest, certificatesDir: string): boolean {
  return commandOf(manifest).includes(word(certificatesDir));
}

/** As it was before `fitOldSaKey` added the flag. */
export function withoutOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (!checksByOldSaKey(manifest, certificatesDir)) return manifest;
  const command = commandOf(manifest).filter((argument) => argument !== word(certificatesDir));
  return withCommand(manifest, command);
}

function withCommand(manifest: Manifest, command: string[]): Manifest {
  const copy = structuredClone(manifest);
  commandOf(copy).splice(0, Number.POSITIVE_INFINITY, ...command);
  return copy;
}

function word(certificatesDir: string): string {
  return `${FLAG}=${oldSaPub(certificatesDir)}`;
}
