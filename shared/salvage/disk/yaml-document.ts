/** Judges which of the files below /etc/kubernetes a text is, and whether it is whole. */
import { createPublicKey } from "node:crypto";
import type { ContainerSpec } from "../../objects/objects.ts";
import { orUndefined } from "../../pki/certificate.ts";
import { isMapping, listOf, readYaml } from "../../yaml.ts";
import type { YamlFind } from "./finds.ts";
import { pemAt, provenKey } from "./pem-block.ts";

type Found<T = YamlFind> = T extends YamlFind ? Omit<T, "offset" | "text"> : never;

/** "cut": it is such a file, and not whole. undefined: it is none. */
export type Judgement = Found | "cut" | undefined;

interface Kind {
  apiVersion: RegExp;
  judge: (document: Document, text: string, ended: boolean) => Judgement;
  /** All keys that it may have at the left edge; any other key is of another file. */
  keys?: readonly string[];
}

interface Document {
  apiVersion: string;
  kind: string;
  [field: string]: unknown;
}

const API_SERVER = /^apiserver\.(config\.)?k8s\.io\//;

// biome-ignore format: a table
const KINDS: Record<string, Kind> = {
  Config:                       { apiVersion: /^v1$/, judge: judgeKubeconfig, keys: ["apiVersion", "kind", "clusters", "contexts", "current-context", "preferences", "users", "extensions"] },
  Pod:                          { apiVersion: /^v1$/, judge: judgePod, keys: ["apiVersion", "kind", "metadata", "spec", "status"] },
  EncryptionConfiguration:      { apiVersion: API_SERVER, judge: judgeConfig("resources") },
  EncryptionConfig:             { apiVersion: /^v1$/, judge: judgeConfig("resources") },
  Policy:                       { apiVersion: /^audit\.k8s\.io\//, judge: judgeConfig("rules") },
  AdmissionConfiguration:       { apiVersion: API_SERVER, judge: judgeConfig("plugins") },
  AuthenticationConfiguration:  { apiVersion: API_SERVER, judge: judgeConfig() },
  AuthorizationConfiguration:   { apiVersion: API_SERVER, judge: judgeConfig("authorizers") },
  EgressSelectorConfiguration:  { apiVersion: API_SERVER, judge: judgeConfig("egressSelections") },
  TracingConfiguration:         { apiVersion: API_SERVER, judge: judgeConfig() },
  KubeSchedulerConfiguration:   { apiVersion: /^kubescheduler\.config\.k8s\.io\//, judge: judgeConfig() },
  KubeletConfiguration:         { apiVersion: /^kubelet\.config\.k8s\.io\//, judge: judgeConfig() },
  ClusterConfiguration:         { apiVersion: /^kubeadm\.k8s\.io\//, judge: judgeConfig() },
  InitConfiguration:            { apiVersion: /^kubeadm\.k8s\.io\//, judge: judgeConfig() },
};

/** The kind that a text names, where it is one of ours. Costs next to nothing. */
export function kindIn(text: string): string | undefined {
  const kind = /^kind:[ \t]*["']?(\w+)["']?[ \t]*\r?$/m.exec(text)?.[1];
  return kind && Object.hasOwn(KINDS, kind) ? kind : undefined;
}

/**
 * What a text is. `ended`: the file's end was seen, so nothing is missing there. Never throws: a disk may
 * hold anything.
 */
export function judge(text: string, ended: boolean): Judgement {
  if (!kindIn(text) || text.includes("\ufffd")) return undefined;
  const document = orUndefined(() => readYaml(text, { cut: true }));
  if (!isMapping(document) || typeof document.apiVersion !== "string") return undefined;
  const kind = Object.hasOwn(KINDS, String(document.kind)) ? KINDS[String(document.kind)] : undefined;
  if (!kind?.apiVersion.test(document.apiVersion)) return undefined;
  if (kind.keys && Object.keys(document).some((key) => !kind.keys!.includes(key))) return undefined;
  return kind.judge(
    document as Document,
    text,
    ended || (text.endsWith("\n") && document.status !== undefined),
  );
}

/** Whether a text is a whole file. */
export function isComplete(judgement: Judgement): boolean {
  return (
    judgement !== undefined && judgement !== "cut" && (judgement.kind === "kubeconfig" || judgement.complete)
  );
}

/** Whether all that is embedded in a kubeconfig's text is whole. */
function embeddedIsWhole(text: string): boolean {
  const embedded = [
    ...text.matchAll(/^[ \t]+(?:certificate-authority|client-certificate|client-key)-data: *(\S*)$/gm),
  ];
  return embedded.every(([, data]) => isWholePem(Buffer.from(data!, "base64")));
}

function judgeKubeconfig(config: Document, text: string, ended: boolean): Judgement {
  const context = named(config.contexts, config["current-context"])?.context;
  const cluster = isMapping(context) ? named(config.clusters, context.cluster)?.cluster : undefined;
  const user = isMapping(context) ? named(config.users, context.user)?.user : undefined;
  if (!isMapping(context) || !isMapping(cluster) || typeof cluster.server !== "string")
    return ended ? undefined : "cut";
  if (!isMapping(user) || Object.keys(user).length === 0) return "cut";
  const [certPem, keyPem] = [decoded(user["client-certificate-data"]), decoded(user["client-key-data"])];
  if (!embeddedIsWhole(text) || (certPem === undefined) !== (keyPem === undefined)) return "cut";
  if (certPem && !belongTogether(certPem, keyPem!)) return "cut";
  if (!certPem && !ended && !text.endsWith("\n")) return "cut";
  return { kind: "kubeconfig", user: String(context.user) };
}

function judgePod(document: Document, _: string, ended: boolean): Judgement {
  const { spec, metadata } = document as { spec?: unknown; metadata?: unknown };
  const name = isMapping(metadata) ? metadata.name : undefined;
  if (typeof name !== "string" || name === "") return undefined;
  if (!isMapping(spec) || listOf(spec.containers).length === 0) return "cut";
  const all = [...listOf(spec.containers), ...listOf(spec.initContainers)];
  if (!all.every((container) => isMapping(container) && typeof container.name === "string")) return "cut";
  const volumes = new Set(listOf(spec.volumes).map(nameOf));
  const mounted = new Set(
    all.flatMap((container) => listOf((container as ContainerSpec).volumeMounts).map(nameOf)),
  );
  const complete = ended && [...mounted].every((mount) => volumes.has(mount));
  return { kind: "manifest", name, complete };
}

function judgeConfig(needed?: string) {
  return ({ kind, ...fields }: Document, _: string, ended: boolean): Judgement =>
    needed && !Array.isArray(fields[needed]) ? "cut" : { kind: "config", configKind: kind, complete: ended };
}

function belongTogether(certPem: string, keyPem: string): boolean {
  const key = provenKey(keyPem)?.publicKey;
  const cert = orUndefined(() => createPublicKey(certPem));
  return key !== undefined && cert !== undefined && key.equals(cert);
}

/** A PEM of another form (with openssl's notes before it, say) counts as whole if it has an end. */
function isWholePem(bytes: Buffer): boolean {
  const block = pemAt(bytes);
  return !(block && "sound" in block) && /-----END [A-Z ]+-----\s*$/.test(bytes.toString("latin1"));
}

function nameOf(value: unknown): unknown {
  return isMapping(value) ? value.name : undefined;
}

function named(list: unknown, name: unknown): Record<string, unknown> | undefined {
  return Array.isArray(list) ? list.find((entry) => isMapping(entry) && entry.name === name) : undefined;
}

function decoded(data: unknown): string | undefined {
  return typeof data === "string" && data ? Buffer.from(data, "base64").toString("latin1") : undefined;
}
