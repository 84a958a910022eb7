/** What no script can finish: things outside of the cluster that hold old keys, and files that did not come back. */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { readCluster } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { readText } from "../files/files.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, certificatesIn } from "../pki/certificate.ts";
import { STAND_IN_MARK } from "../static-pods/restore.ts";
import type { PodOwner } from "./pod-owners.ts";
import { label } from "./rollout.ts";

interface Left {
  cp: ControlPlaneNode;
  api: KubeApi;
  /** Token Secrets that got a new token, `namespace/name`. */
  renewed: readonly string[];
  /** Pods with stale trust that were not restarted. */
  reported: readonly PodOwner[];
  caPem: string;
}

/** Sentences for the operator, the most urgent first. */
export async function leftToDo({ cp, api, renewed, reported, caPem }: Left): Promise<string[]> {
  const lines = standIns(cp).map((path) => `${path} is a stand-in: put your own audit policy back, then restart kube-apiserver`);
  for (const owner of reported)
    lines.push(`pod ${label(owner)} still trusts the old CA (${owner.reason}): restart it yourself if it talks to the API`);
  const oldCa = replacedCa(cp, caPem);
  if (oldCa) {
    lines.push(
      "kubeconfigs of people, CI and monitoring are of the old CA: hand out new ones (kubeadm kubeconfig user, or copies of admin.conf)",
    );
    if (renewed.length > 0)
      lines.push(
        `tokens that were copied out of these Secrets are dead: ${renewed.slice(0, 10).join(", ")}${renewed.length > 10 ? " …" : ""}`,
      );
    lines.push("whoever checks tokens by the published keys (/openid/v1/jwks: cloud identities, Vault) has to fetch them anew");
    for (const name of await withOldCaBundle(api, oldCa)) lines.push(`${name}: its caBundle is the old CA`);
  }
  lines.push(
    `make a backup now: ./bunw scripts/hand-over.ts pack, and an etcd snapshot, away from this machine. CA in use: ${certInfo(caPem).publicKeyHash}`,
  );
  for (const { dir } of rescueFolders()) lines.push(`${dir} holds old keys and all Secrets: remove it when you no longer need it`);
  return lines;
}

/** The public key's hash of the CA that was replaced, by this repair or by the last one, as long as its folder is here. */
function replacedCa({ cluster, earlier }: ControlPlaneNode, caPem: string): string | undefined {
  const known = [cluster.oldCaPem, ...(earlier ? [readCluster(earlier.data).oldCaPem] : [])];
  return known.map((pem) => certInfo(pem).publicKeyHash).find((hash) => hash !== certInfo(caPem).publicKeyHash);
}

/** Audit policies that this kit wrote in the place of lost ones. */
export function standIns(cp: Pick<ControlPlaneNode, "node">): string[] {
  const manifest = readManifest(manifestPath(cp, "kube-apiserver"));
  const policies = manifest ? hostFiles(manifest).filter((file) => file.namedBy === "--audit-policy-file") : [];
  return policies.map((file) => file.path).filter((path) => readText(path)?.startsWith(STAND_IN_MARK));
}

type Hooked = KubeObject & { webhooks?: { clientConfig?: { caBundle?: string } }[]; spec?: { caBundle?: string } };

async function withOldCaBundle(api: KubeApi, oldCa: string): Promise<string[]> {
  const kinds = {
    ValidatingWebhookConfiguration: "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    MutatingWebhookConfiguration: "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    APIService: "apiregistration.k8s.io/v1/apiservices",
  };
  const found: string[] = [];
  for (const [kind, path] of Object.entries(kinds)) {
    for (const object of await api.list<Hooked>(`/apis/${path}`)) {
      const bundles = [object.spec?.caBundle, ...(object.webhooks ?? []).map((hook) => hook.clientConfig?.caBundle)];
      const pems = bundles.flatMap((bundle) => certificatesIn(Buffer.from(bundle ?? "", "base64").toString()));
      if (pems.some((pem) => certInfo(pem).publicKeyHash === oldCa)) found.push(`${kind} ${object.metadata.name}`);
    }
  }
  return found;
}
