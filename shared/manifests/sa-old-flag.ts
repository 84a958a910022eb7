/**
 * A second key by which kube-apiserver checks service-account tokens: the old sa.pub, computed from old tokens, so that those stay valid
 * beside the new ones until part 4 is done. The flag may be given several times; what signs stays the one sa.key.
 */

import { oldSaKeys, oldSaPub } from "../pki/sa-keys.ts";
import type { Manifest } from "./from-mirror-pod.ts";

const FLAG = "--service-account-key-file";

/** The API server's manifest with the old key's file where there is one, without it where there is none; the same object where it fits. */
export function fitOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  return oldSaKeys(certificatesDir).length > 0 ? withOldSaKey(manifest, certificatesDir) : withoutOldSaKey(manifest, certificatesDir);
}

export function checksByOldSaKey(manifest: Manifest, certificatesDir: string): boolean {
  return commandOf(manifest).includes(word(certificatesDir));
}

/** As it was before `fitOldSaKey` put the file in. */
export function withoutOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (!checksByOldSaKey(manifest, certificatesDir)) return manifest;
  return withCommand(
    manifest,
    commandOf(manifest).filter((argument) => argument !== word(certificatesDir)),
  );
}

function withOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (checksByOldSaKey(manifest, certificatesDir)) return manifest;
  const command = commandOf(manifest);
  const last = command.findLastIndex((argument) => argument.startsWith(`${FLAG}=`));
  return withCommand(manifest, command.toSpliced(last + 1 || command.length, 0, word(certificatesDir)));
}

function withCommand(manifest: Manifest, command: string[]): Manifest {
  const copy = structuredClone(manifest);
  copy.spec.containers[0]!.command = command;
  return copy;
}

function word(certificatesDir: string): string {
  return `${FLAG}=${oldSaPub(certificatesDir)}`;
}

function commandOf(manifest: Manifest): string[] {
  return manifest.spec.containers[0]?.command ?? [];
}
