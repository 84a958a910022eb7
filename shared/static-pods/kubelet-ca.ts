/**
 * The CA by which the API server checks the kubelets' serving certificates (`--kubelet-certificate-authority`): without it, or with an old
 * one, kubectl logs and exec fail. kubeadm does not set this flag. Mostly it names pki/ca.crt, and then nothing is to be done; some name a
 * copy of it, or a bundle that has it.
 */
import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { madeFiles } from "../facts/lost-files.ts";
import { copyAside } from "../files/file-tree.ts";
import { writeFile } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { commandOf, flags, hostPathOf } from "../manifests/command.ts";
import { certificatesIn, infoOf } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { wantedManifests } from "./wanted-manifests.ts";

/**
 * Under a new CA, part 3 has it sign the kubelets' serving certificates: it takes the old one's place in that file, and other CAs of a
 * bundle stay. Returns the paths written.
 */
export function fitKubeletCa(cp: ControlPlaneNode): string[] {
  const path = caIsNew(cp) ? namedFile(cp) : undefined;
  const text = path === undefined ? undefined : smallText(path);
  if (path === undefined || text === undefined) return [];
  const hashOf = (pem: string) => infoOf(pem)?.publicKeyHash;
  const [ca, all] = [clusterCa(cp.facts.certificatesDir), certificatesIn(text)];
  const others = all.filter((pem) => hashOf(pem) !== hashOf(cp.cluster.oldCaPem));
  if (others.length === all.length || others.some((pem) => hashOf(pem) === hashOf(ca))) return [];
  copyAside(path, cp.asideDir);
  const content = [ca, ...others].map((pem) => `${pem.trim()}\n`).join("");
  writeFile(path, content, { note: "the new CA in the old one's place: the API server checks kubelets by it" });
  return [path];
}

/** Undefined where the flag is not set, or names a file that parts 1 and 2 make. */
function namedFile(cp: ControlPlaneNode): string | undefined {
  const manifest = wantedManifests(cp, ["kube-apiserver"])[0]?.manifest;
  const inside = manifest && flags(commandOf(manifest)).get("kubelet-certificate-authority");
  const path = inside && hostPathOf(manifest, inside);
  return path && !madeFiles(cp.facts.certificatesDir).has(path) ? path : undefined;
}
