/**
 * Key files and kubeconfigs of static pods that do not run as root: each pod must be able to read its own. Where one user reads a file, it is
 * that user's; where several do, root's, for the group that they share. So kubeadm does it (app/util/staticpod, RootlessControlPlane).
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { madeFiles } from "../facts/lost-files.ts";
import { giveTo, stat } from "../files/files.ts";
import { hostFiles } from "../manifests/command.ts";
import { type PodUser, userOf } from "../manifests/pod-user.ts";
import { act } from "../run.ts";
import type { WantedManifest } from "./wanted-manifests.ts";

type Pods = readonly Pick<WantedManifest, "name" | "manifest">[];

interface Reader {
  name: string;
  user: PodUser;
}

/** For each file that part 1 or 2 makes: its readers that are not root. */
function readersOf(pods: Pods, certificatesDir: string): Map<string, Reader[]> {
  const made = madeFiles(certificatesDir);
  const readers = new Map<string, Reader[]>();
  for (const { name, manifest } of pods) {
    const user = userOf(manifest);
    if (!user || user.uid === 0) continue;
    const paths = hostFiles(manifest).map(({ path }) => path);
    for (const path of new Set(paths)) if (made.has(path)) readers.set(path, [...(readers.get(path) ?? []), { name, user }]);
  }
  return readers;
}

/** Files whose readers have no group in common, with the readers' names. */
export function unreadable(pods: Pods, { facts }: ControlPlaneNode): { path: string; readers: string[] }[] {
  return [...readersOf(pods, facts.certificatesDir)].flatMap(([path, readers]) =>
    isPublic(path) || ownerFor(readers) ? [] : [{ path, readers: readers.map(({ name }) => name) }],
  );
}

/** Gives each file to its readers, where they cannot read it. Errors: as `giveTo`. */
export async function fitOwners(pods: Pods, { facts }: ControlPlaneNode) {
  for (const [path, readers] of readersOf(pods, facts.certificatesDir)) {
    const [info, owner] = [stat(path), ownerFor(readers)];
    if (info?.kind !== "file" || !owner || readers.every(({ user }) => canRead(user, info))) continue;
    const names = readers.map(({ name, user }) => `${name} (user ${user.uid})`).join(" and ");
    await act(`${path}: owner ${owner.uid}:${owner.gid}, mode 0${owner.mode.toString(8)}: ${names} reads it`, () => giveTo(path, owner));
  }
}

function ownerFor(readers: readonly Reader[]): { uid: number; gid: number; mode: number } | undefined {
  const [first, ...others] = readers.map(({ user }) => user) as [PodUser, ...PodUser[]];
  if (others.every(({ uid }) => uid === first.uid)) return { uid: first.uid, gid: first.gids[0]!, mode: 0o600 };
  const gid = first.gids.find((one) => one !== 0 && others.every(({ gids }) => gids.includes(one)));
  return gid === undefined ? undefined : { uid: 0, gid, mode: 0o640 };
}

function canRead({ uid, gids }: PodUser, info: { uid: number; gid: number; mode: number }): boolean {
  if (info.uid === uid) return (info.mode & 0o400) !== 0;
  return (info.mode & (gids.includes(info.gid) ? 0o040 : 0o004)) !== 0;
}

function isPublic(path: string): boolean {
  return path.endsWith(".crt");
}
