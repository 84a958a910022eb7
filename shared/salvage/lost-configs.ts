/**
 * Finds lost configuration files that the API server's flags name. kubeadm never made them, so only a copy
 * brings them back.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { namesPlugin, opened, type Sealed, sealedIn, sealOf, writesClear } from "../objects/stored.ts";
import { orUndefined } from "../pki/certificate.ts";
import { readYaml } from "../yaml.ts";
import type { ConfigFind } from "./disk/finds.ts";
import type { TextFind } from "./disk-search.ts";

/** What each flag's file holds. */
const KINDS: Record<string, readonly string[]> = {
  "--encryption-provider-config": ["EncryptionConfiguration", "EncryptionConfig"],
  "--audit-policy-file": ["Policy"],
  "--admission-control-config-file": ["AdmissionConfiguration"],
  "--authentication-config": ["AuthenticationConfiguration"],
  "--authorization-config": ["AuthorizationConfiguration"],
  "--egress-selector-config-file": ["EgressSelectorConfiguration"],
  "--tracing-config-file": ["TracingConfiguration"],
};

export interface LostConfig extends Pick<LostFile, "path" | "namedBy"> {
  kinds: readonly string[];
}

/** Those that a search of a disk knows by their kind. */
export function lostConfigs(files: readonly LostFile[]): LostConfig[] {
  return files.flatMap(({ path, namedBy }) => {
    const kinds = Object.hasOwn(KINDS, namedBy) ? KINDS[namedBy] : undefined;
    return kinds ? [{ path, namedBy, kinds }] : [];
  });
}

/**
 * What was found for a lost file: the content that is proved, or all complete texts of its kind, which prove
 * nothing. Everybody can lay out such a file. Only an EncryptionConfiguration can be proved: it opens a value
 * of each key that encrypted etcd's data; nobody else has these keys. Of a KMS plugin it names the plugin;
 * that alone proves nothing. Not proved where nothing is encrypted. `rivals`: a disk's blocks keep earlier
 * versions as well, which open it, too. Which one is of today nothing tells, so a person has to: a wrong one
 * writes with a retired key, or in clear.
 */
export function chooseConfig({ kinds }: LostConfig, finds: readonly TextFind[], data: EtcdData | undefined) {
  const whole = finds.filter(
    (find): find is ConfigFind => find.kind === "config" && kinds.includes(find.configKind) && find.complete,
  );
  const versions = [...new Map(whole.map((find) => [find.text.trim(), find])).values()];
  const isProvable = data !== undefined && versions.length > 0 && kinds.includes("EncryptionConfiguration");
  const samples = isProvable ? samplesIn(data) : [];
  // parsing never fails here: `judge` has parsed the text before
  const opening = versions.filter(({ text }) => samples.some(isTried) && opensAll(readYaml(text), samples));
  const meant = [...Map.groupBy(opening, ({ text }) => JSON.stringify(readYaml(text))).values()].map(
    ([first]) => first!,
  );
  if (meant.length === 0) return { proved: undefined, rivals: [], unproved: versions };
  const [only] = meant;
  return meant.length === 1 && !writesClear(readYaml(only!.text))
    ? { proved: only!.text, rivals: [], unproved: [] }
    : { proved: undefined, rivals: meant, unproved: [] };
}

/**
 * Whether an encryption configuration, of whatever origin, does not open what etcd's data holds. Errors:
 * none; no YAML opens nothing.
 */
export function opensNothing({ kinds }: LostConfig, text: string, data: EtcdData | undefined): boolean {
  const samples = data !== undefined && kinds.includes("EncryptionConfiguration") ? samplesIn(data) : [];
  return (
    samples.length > 0 &&
    !opensAll(
      orUndefined(() => readYaml(text)),
      samples,
    )
  );
}

function opensAll(config: unknown, samples: readonly Sealed[]): boolean {
  return samples.every((sealed) =>
    isTried(sealed) ? opened(config, sealed) !== undefined : namesPlugin(config, sealed),
  );
}

/** Whether it can be opened here: a KMS plugin keeps its key. */
function isTried({ provider }: Sealed): boolean {
  return provider !== "kms";
}

/** One value of each provider and key, without those that a configuration on this node opens already. */
function samplesIn(data: EtcdData): Sealed[] {
  const samples = new Map<string, Sealed | undefined>();
  for (const etcdKey of data.keys("/")) {
    const seal = sealOf(data.valueHead(etcdKey, 300) ?? new Uint8Array());
    if (seal !== undefined && !samples.has(seal))
      samples.set(seal, sealedIn(etcdKey, data.get(etcdKey)!.value));
  }
  return [...samples.values()].filter((sealed) => sealed !== undefined);
}
