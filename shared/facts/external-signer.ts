/**
 * An external signer (`--service-account-signing-endpoint`, kube-apiserver since 1.32): a plugin behind a socket signs service-account
 * tokens, and says by which keys they are checked. No control plane node has sa.key then, and no script makes one. The API server takes
 * neither `--service-account-key-file` nor `--service-account-signing-key-file` beside it (controlplane/apiserver/options/validation.go).
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { SIGNER_FLAG } from "../manifests/sa-old-flag.ts";
import type { ClusterFacts } from "../pki/certs.ts";

/**
 * Whether an API server here has the flag, and no controller-manager signs tokens with a key of its own: kubeadm's extraArgs cannot take a
 * flag away, only make it empty. By mirror pods in etcd's data.
 */
export function isExternalSigner(data: EtcdData, { nodes }: { nodes: readonly { name: string; controlPlane: boolean }[] }): boolean {
  const names = nodes.flatMap(({ controlPlane, name }) => (controlPlane ? [name] : []));
  const pods = attempt(() => names.flatMap((name) => findMirrorPods(data, name)));
  const has = (pod: string, flag: string) =>
    !(pods instanceof Fail) && pods.some(({ name, pod: { spec } }) => name === pod && Boolean(flags(commandOf({ spec })).get(flag)));
  return has("kube-apiserver", SIGNER_FLAG) && !has("kube-controller-manager", "service-account-private-key-file");
}

/** Errors: Fail where old tokens are the signer's business. */
export function refuseExternalSigner({ externalSigner }: ClusterFacts) {
  if (!externalSigner) return;
  throw new Fail(`The API server's tokens come from an external signer (--${SIGNER_FLAG}): it takes no sa-old.pub beside it`, {
    hint: "for old tokens to stay valid, the signer itself must list their public key (its FetchKeys); nothing is to be done on this node",
  });
}
