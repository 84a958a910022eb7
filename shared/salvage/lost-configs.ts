/** Which of the found encryption configurations is the lost one: nobody can rebuild it, so only a copy brings it back. */
import type { EtcdData } from "../etcd-data/data.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { namesPlugin, opened, type Sealed, sealedIn, sealOf, writesClear } from "../objects/stored.ts";
import { orUndefined } from "../pki/certificate.ts";
import { readYaml } from "../yaml.ts";
import type { ConfigFind } from "./disk/finds.ts";

export type LostConfig = Pick<LostFile, "path" | "namedBy">;

/** Those of the lost files that a search of a disk knows. */
export function lostConfigs(files: readonly LostFile[]): LostConfig[] {
  return files.filter(({ namedBy }) => namedBy === "--encryption-provider-config");
}

/**
 * The content that is proved, or all that was found, which proves nothing: everybody can lay out such a file.
 * It is proved by what it opens: a value of each key that encrypted etcd's data; nobody else has these keys.
 * Of a KMS plugin it names the plugin; that alone proves nothing. `rivals`: a disk's blocks keep earlier
 * versions as well, which open it, too. Which one is of today nothing tells, so a person has to: a wrong one
 * writes with a retired key, or in clear.
 */
export function chooseConfig(finds: readonly ConfigFind[], data: EtcdData | undefined) {
  const versions = [...new Map(finds.map((find) => [find.text.trim(), find])).values()];
  const samples = data !== undefined && versions.length > 0 ? samplesIn(data) : [];
  // parsing never fails here: configAt has parsed the text before
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
export function opensNothing(text: string, data: EtcdData | undefined): boolean {
  const samples = data === undefined ? [] : samplesIn(data);
  const config = orUndefined(() => readYaml(text));
  return samples.length > 0 && !opensAll(config, samples);
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
