/** Work that part 4 leaves to the operator and to other people, the most urgent first; and what rescue folders hold. */

import { lstatSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { command, type Todo } from "../again.ts";
import { apiExtensions } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { linksToCurrentData } from "../etcd-location/etcd-folders.ts";
import { caEndedAt, holdersOf, managedNode } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { lastWritten } from "../facts/pod-trust.ts";
import { replacedCa } from "../facts/repair.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { attempt, Fail } from "../fail.ts";
import { copiedFrom, filesBelow, linksOut } from "../files/file-tree.ts";
import { exists, hostEntry, list, readText } from "../files/files.ts";
import { isBelow } from "../files/root.ts";
import { podFlags } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import {
  type Rescue,
  rescuedEtcd,
  rescuedLog,
  rescueFolders,
  transcriptFolder,
  WORDS_FILE,
} from "../node/rescue-folder.ts";
import { type TrustedKeys, trustedKeys } from "../pki/certificate.ts";
import { newSaKeySince } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { fewLines } from "../progress.ts";
import { byOperator, howToRestart, type Left, label, lineOf, type PodOwner } from "./pod-owners.ts";
import { trustBundles } from "./root-ca.ts";
import { type Chosen, reportedOwners, resumeCommands } from "./stale-pods.ts";
import { TEST_PODS } from "./test-pods.ts";
import { tokenSecrets } from "./token-secrets.ts";

interface Done {
  cp: ControlPlaneNode;
  caPem: string;
  /** Stale pods that nothing restarts, and those that this run did not by the operator's choice. */
  reported: readonly PodOwner[];
  skipped: readonly PodOwner[];
  later: readonly PodOwner[];
  /** Stale pods that could not be restarted, and Secrets, by `namespace/name`, that could not be renewed. */
  workloads: readonly Left[];
  secrets: ReadonlyMap<string, Fail>;
  namespaces: readonly string[];
}

export function leftToDo(done: Done): string[] {
  const { cp, reported, skipped, later, workloads, secrets, namespaces, caPem } = done;
  const lines: string[] = [];
  if (namespaces.length > 0)
    lines.push(`kube-root-ca.crt has another CA in: ${listed(namespaces)}: 4.2 says why`);
  const oldSecrets = [...secrets].map(([name, { message, hint }]) => {
    const text = `Secret ${name} still has old trust: ${message}: ${hint}`;
    return { name: `Secret ${name}`, own: name.split("/"), text };
  });
  lines.push(...fewLines(oldSecrets));
  const still =
    replacedCa(cp, caPem).size === 0 ? " still has a token of the old key" : " still trusts the old CA";
  const old = workloads.map(({ owner, why }) =>
    lineOf(owner, `${label(owner)}${still}: ${why.message}: ${why.hint}`),
  );
  lines.push(...fewLines(old), ...byOperator(reported, still));
  for (const owner of skipped) lines.push(`${label(owner)}${still} (skipped by you): ${howToRestart(owner)}`);
  if (later.length > 0)
    lines.push(`left for a later run: ${listed(later.map(label))}: ${resumeCommands({ later, skipped })}`);
  return [...lines, `${command("05-verify")} names the tasks for people`];
}

export function beforeRetire({ groups, later }: Chosen): Todo[] {
  const held = reportedOwners(groups).map(label);
  const called = `restart or end ${listed(held)} as 4.7 says (retire stops until then)`;
  return later.length === 0 && held.length > 0 ? [{ command: "", called }] : [];
}

export function refuseRest({
  workloads,
  secrets,
  namespaces,
}: Pick<Done, "workloads" | "secrets" | "namespaces">) {
  const counts = [`${workloads.length} workloads`, `${secrets.size} token Secrets`];
  if (namespaces.length > 0) counts.push(`${namespaces.length} namespaces`);
  if (workloads.length + secrets.size + namespaces.length === 0) return;
  throw new Fail(`Not all could be renewed. Left for you: ${counts.join(", ")}`, {
    hint: "type the commands that 4.7 names. Then run the same line again: it does only what is left",
  });
}

/** Only people can renew these: old keys outside of the cluster, and their own copies. */
export async function peopleToDo(cp: ControlPlaneNode, caPem: string, api?: KubeApi): Promise<string[]> {
  const oldHashes = replacedCa(cp, caPem);
  const hasNewCa = oldHashes.size > 0;
  const lines = hasNewCa ? [OLD_KUBECONFIGS] : caEndedAt(cp) ? [ENDED_KUBECONFIGS] : unknownBefore(cp);
  lines.push(...(await newKeyToDo(cp, api)));
  if (!hasNewCa) return lines;
  for (const name of api ? await withOldCaBundle(api, oldHashes) : [])
    lines.push(`${name}: it still holds the old CA as trusted: put the new one there`);
  const managed = managedNode(cp.data, cp.node.name);
  return [...lines, ...holdersOf({ managed, oldHashes, certificatesDir: cp.facts.certificatesDir })];
}

/** Whatever the CA: a new service-account key is published, and tokens of the old one end. */
async function newKeyToDo(cp: ControlPlaneNode, api?: KubeApi): Promise<string[]> {
  if (!saKeyIsNew(cp)) return [];
  const since = newSaKeySince(readText(`${cp.facts.certificatesDir}/sa.pub`) ?? "");
  const secrets = since && api ? await tokenSecrets(api) : [];
  const written = secrets.filter((one) => lastWritten(one, new Date(0)) >= since!).map(nameOf);
  const copies = `copies of the old tokens of these Secrets no longer work, copy the new ones: ${listed(written.sort())}`;
  return [...(written.length > 0 ? [copies] : []), publishedKeys(cp)];
}

function publishedKeys(cp: ControlPlaneNode): string {
  const manifest = readManifest(manifestPath(cp, "kube-apiserver"));
  const words = podFlags(manifest);
  const urls = ["service-account-issuer", "service-account-jwks-uri"].flatMap((flag) =>
    words.all(flag).map((url) => `--${flag}=${url}`),
  );
  const named = urls.length > 0 ? ` (${urls.join(", ")})` : "";
  return (
    `systems that check tokens with the published keys${named} must fetch them again: ` +
    "cloud identities (IRSA, workload identity), Vault, other clusters. Into a bucket goes: kubectl get --raw /openid/v1/jwks"
  );
}

const OLD_KUBECONFIGS =
  "kubeconfigs of users, CI and monitoring still have the old CA: give them new ones (kubeadm kubeconfig user, or copies of admin.conf)";

const ENDED_KUBECONFIGS =
  "kubeconfigs of users, CI and monitoring have the CA's certificate that has expired: put the current ca.crt there, their certificates and tokens stay";

/** If a rescue folder shows the current data, nothing here tells whether this repair has replaced the CA. */
function unknownBefore({ etcd }: Pick<ControlPlaneNode, "etcd">): string[] {
  const rescue = rescueFolders().find((one) => linksToCurrentData(one, etcd));
  if (!rescue) return [];
  return [
    `${rescuedEtcd(rescue)} is a link to the current data, no copy that was made before the repair. If the CA was replaced, ${OLD_KUBECONFIGS}`,
  ];
}

async function withOldCaBundle(api: KubeApi, oldCa: TrustedKeys): Promise<string[]> {
  const isOld = (pem: string) => !trustedKeys(pem).isDisjointFrom(oldCa);
  const called = (await apiExtensions(api)).filter(({ clients }) =>
    clients.some(({ caBundle = "" }) => isOld(Buffer.from(caBundle, "base64").toString())),
  );
  const bundles = (await trustBundles(api)).filter(({ spec }) => isOld(spec.trustBundle));
  return [
    ...called.map(({ name }) => name),
    ...bundles.map(({ metadata }) => `ClusterTrustBundle ${metadata.name}`),
  ];
}

export async function hasLeftCanaries(api: KubeApi): Promise<boolean> {
  return (await api.list(TEST_PODS)).length > 0;
}

/** Rescue folders that hold more than words and the transcripts of runs: somebody has to remove them. */
export function rescuedFiles(): Rescue[] {
  return rescueFolders().filter((rescue) =>
    list(rescue.dir).some((name) => ![basename(transcriptFolder(rescue)), WORDS_FILE].includes(name)),
  );
}

const SECRET = /PRIVATE KEY|client-key-data:|AGE-SECRET-KEY-|^[ \t]*token:\s*\S/m;

/** Bytes; larger files count as secret. */
const LARGEST = 1 << 20;

/** "etcd's data with all Secrets, 9 files with a private key or a token, 3 without". */
export function heldIn(rescue: Rescue): string {
  const etcd = exists(rescuedEtcd(rescue));
  const parts = [transcriptFolder, ...(etcd ? [rescuedEtcd, rescuedLog] : [])].map((part) => part(rescue));
  const isOther = (path: string) => !parts.some((part) => isBelow(path, part));
  const files = filesBelow(rescue.dir).filter(isOther).toArray();
  const secret = files.filter(isSecret).length;
  const others = files.length - secret;
  const runs = list(transcriptFolder(rescue)).filter((name) => name.endsWith(".txt")).length;
  const transcripts = runs > 0 ? [`the transcripts of ${runs} run${runs === 1 ? "" : "s"}`] : [];
  if (!etcd && secret === 0)
    return `no key and no Secret, only ${listed([...new Set(files.map((path) => basename(path)).sort()), ...transcripts])}`;
  const held: string[] = [];
  if (etcd) held.push(`etcd's data with all Secrets${byLinks(rescuedEtcd(rescue))}`);
  if (secret > 0) held.push(`${secret} file${secret === 1 ? "" : "s"} with a private key or a token`);
  if (others > 0) held.push(`${others} without`);
  return [...held, ...transcripts].join(", ");
}

/** A link's target, or what was never copied, is not deleted with the folder. */
function byLinks(folder: string): string {
  const links = attempt(() => linksOut(copiedFrom(hostEntry(folder))));
  return links instanceof Fail || links.length === 0 ? "" : ` (by links: ${listed(links)})`;
}

function isSecret(path: string): boolean {
  const host = hostEntry(path);
  return lstatSync(host).size > LARGEST || SECRET.test(readFileSync(host, "utf8"));
}
