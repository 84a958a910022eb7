/** kubeadm's certificatesDir (kubespray: /etc/kubernetes/ssl), where etcd's data does not tell it. Reads only. */
import { basename, dirname } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { manifestPath, readManifest, whereIs } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";

/** By where the API server or the kubelet has ca.crt: kubeadm names it in both (componentconfigs/kubelet.go). Else kubeadm's default. */
export function certificatesDirOn(node: Node | undefined): string {
  const manifest = node && attempt(() => readManifest(whereIs(manifestPath({ node }, "kube-apiserver"))));
  const command = manifest === undefined || manifest instanceof Fail || !manifest.spec ? [] : commandOf(manifest);
  const named = [flags(command).get("client-ca-file"), node?.kubelet.clientCaFile];
  const path = named.find((one) => one !== undefined && basename(one) === "ca.crt");
  return path ? dirname(path) : CERTIFICATES_DIR;
}
