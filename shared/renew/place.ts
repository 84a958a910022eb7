/**
 * The files of a node that hold a CA's certificate, and the renewed one in each of them: PEM files and
 * kubeconfigs that the kubelet and the static pods read. What was there is copied aside first, and comes back
 * from there.
 */
import { copyToRescue } from "../files/file-tree.ts";
import { readText, stat, writeTogether } from "../files/files.ts";
import { refuseMounted } from "../files/mounts.ts";
import { refuseUnwritable } from "../files/room.ts";
import { contentPath } from "../files/root.ts";
import { commandOf, hostPathOf } from "../manifests/command.ts";
import { podsOnDisk } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { versionsAside } from "../node/rescue-folder.ts";
import { type CertInfo, certInfo, infosIn, isValidNow } from "../pki/certificate.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";
import { CA_NAMES, type CaName, type Renewal, renewedText, unlikeOld } from "./renewal.ts";

/** Bytes. No CA's file and no kubeconfig is as long. */
const LARGEST = 256 * 1024;

/**
 * Paths, each once: the CAs' own, the kubeconfigs, the kubelet's two, and each file of the host that a flag of a
 * static pod names. Of a link, the file that it leads to.
 */
export function caFiles(node: Node, certificatesDir: string): string[] {
  const { kubeconfig, clientCaFile } = node.kubelet;
  const named = [...podsOnDisk({ node }).values()].flatMap((pod) =>
    commandOf(pod).flatMap((word) => {
      const [, value] = /^(?:--[\w-]+=)?(\/.+)$/.exec(word) ?? [];
      return value === undefined ? [] : (hostPathOf(pod, value) ?? []);
    }),
  );
  const own = CA_NAMES.map((name) => certPath(certRow(name), certificatesDir));
  const all = [...own, clientCaFile, kubeconfig, ...KUBECONFIGS.map(({ path }) => path), ...named];
  return [...new Set(all.map(contentPath))].filter((path) => {
    const info = stat(path);
    return info?.kind === "file" && info.size <= LARGEST;
  });
}

/**
 * Writes `next` of each renewal where another certificate of that CA stands; all files are on disk beside their
 * places before the first one changes. Returns the paths written.
 */
export function place(renewals: readonly Renewal[], paths: readonly string[], asideDir: string): string[] {
  const changes = paths.flatMap((path) => {
    const text = readText(path)!;
    const content = renewals.reduce((left, { next }) => renewedText(left, next), text);
    return content === text ? [] : [{ path, content, note: "the renewed certificate in it" }];
  });
  const places = changes.map(({ path }) => path);
  refuseUnwritable(places);
  refuseMounted(places);
  for (const { path } of changes) copyToRescue(path, asideDir);
  return writeTogether(changes);
}

/** Of the CA in this file: back to the one from before. */
export function wayBack(name: CaName, path: string): Renewal {
  const now = certInfo(readText(path) ?? "");
  const next = certificateBefore(now, path);
  const note = next ? "the old one" : "unchanged: no valid older one is here";
  return { name, path, now, next: next ?? now, note };
}

/**
 * The certificate of this CA that was here before it was renewed, and is valid still: of the copies in all rescue
 * folders the one that ends last. Undefined: there is none.
 */
function certificateBefore(now: Readonly<CertInfo>, path: string): Readonly<CertInfo> | undefined {
  const all = versionsAside(contentPath(path)).flatMap(({ text }) => infosIn(text));
  const before = all.filter(
    (info) => info.notAfter < now.notAfter && isValidNow(info) && unlikeOld(now.pem, info.pem).length === 0,
  );
  return before.sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())[0];
}

/** The one that goes, or has gone before; undefined where nothing here says that there was another. */
export function olderOf({ now, next, path }: Renewal): Readonly<CertInfo> | undefined {
  return now.pem === next.pem ? certificateBefore(now, path) : now;
}
