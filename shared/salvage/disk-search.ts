/** Rung 3: what a disk's free blocks bring to a haul. */
import { privateKeyOf } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import { say } from "../run.ts";
import { carve, diskProgress } from "./disk/carve.ts";
import { deviceOf } from "./disk/device.ts";
import { Disk } from "./disk/disk.ts";
import type { CertificateFind, Find, PrivateKeyFind } from "./disk/finds.ts";
import type { Haul } from "./haul.ts";

/** The device that /etc/kubernetes lay on; what makes it less likely that anything is found is said. Errors: Fail where there is none to read. */
export async function ownDevice(): Promise<string> {
  const { path, warnings } = await deviceOf("/etc/kubernetes");
  for (const warning of warnings) say(`warning: ${warning}`);
  return path;
}

/** Reads the disk once, and gives the haul each key that it wants. Returns all that was found. Errors: Fail where it cannot be read. */
export async function searchDisk(path: string, haul: Haul): Promise<Find[]> {
  using disk = new Disk(path);
  const began = performance.now();
  const finds: Find[] = [];
  for await (const find of carve(disk, { onProgress: diskProgress(disk) })) finds.push(find);
  const seconds = (performance.now() - began) / 1000;
  say(`${path}: ${Math.round(disk.size / 1e6)} MB in ${seconds.toFixed(1)} s, ${counted(finds)}`);
  if (disk.unreadable > 0) say(`warning: ${disk.unreadable} bytes of ${path} cannot be read`);
  for (const { name } of haul.missing()) learnAuthority(name, finds, haul);
  for (const find of finds) if (find.kind === "private key") haul.accept(privateKeyOf(find.pem), `free blocks of ${path}`);
  return finds;
}

/** An authority that nothing else knows, as etcd's own: by its certificate that lies beside its key, if there is only one such pair. */
function learnAuthority(name: string, finds: readonly Find[], haul: Haul) {
  const row = CERTS.find(({ file, shared }) => shared && file === name);
  const keys = new Set(finds.filter((find): find is PrivateKeyFind => find.kind === "private key").map((find) => find.publicKeyHash));
  const pairs = finds.filter(
    (find): find is CertificateFind =>
      find.kind === "certificate" && keys.has(find.info.publicKeyHash) && find.info.isCa && find.info.cn === row?.cn,
  );
  const generations = new Set(pairs.map((pair) => pair.info.publicKeyHash));
  if (generations.size === 1) haul.learn(name, pairs[0]!.pem, "the certificate beside it");
}

/** Manifests, kubeconfigs and configurations as files for a person to look through: nothing is put to use that is not proved. */
export function texts(finds: readonly Find[], folder: string): { path: string; content: string; from: string }[] {
  return finds.flatMap((find) => {
    if (find.kind !== "manifest" && find.kind !== "kubeconfig" && find.kind !== "config") return [];
    const name = find.kind === "manifest" ? find.name : find.kind === "kubeconfig" ? find.user : find.configKind;
    const path = `${folder}/${find.kind}-${name.replaceAll(/[^\w.-]+/g, "-")}-${find.offset.toString(16)}.yaml`;
    return [{ path, content: find.text, from: "as it lay on the disk" }];
  });
}

/** "11 private keys, 9 certificates, 4 manifests": of what kind, and how many. */
function counted(finds: readonly Find[]): string {
  const counts = new Map<string, number>();
  for (const { kind } of finds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return (
    [...counts].map(([kind, count]) => `${count} ${kind === "cut" ? "cut off" : count === 1 ? kind : PLURALS[kind]}`).join(", ") ||
    "nothing found"
  );
}

const PLURALS: Record<string, string> = {
  "private key": "private keys",
  "public key": "public keys",
  certificate: "certificates",
  kubeconfig: "kubeconfigs",
  manifest: "manifests",
  config: "configurations",
};
