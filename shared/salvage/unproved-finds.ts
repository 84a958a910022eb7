/** Turns finds that nothing proves into files for the rescue folder, each with the command that would take it. See trust/unproved.ts. */
import { day } from "../pki/judge.ts";
import type { Unproved } from "../trust/unproved.ts";
import type { DiskFound, TextFind } from "./disk-search.ts";
import { type FoundKey, pairOf } from "./found-keys.ts";
import { labelOf } from "./generations.ts";
import type { LostConfig } from "./lost-configs.ts";

/** A stranger can lay out any number. So many of each thing get a file and a command of their own; all texts are in one file a kind. */
const FEW = 5;

const SOURCE = "a disk's blocks";

/** CAs of which the cluster knows nothing, as etcd's own where its ca.crt is gone. That key and certificate belong together is no proof. */
export function unprovedPairs({ pairs, path }: DiskFound, certificatesDir: string): Unproved[] {
  return pairs.slice(0, FEW).flatMap(({ name, cert, key }) => {
    const { publicKeyHash, notBefore } = cert.info;
    const what = `CA ${publicKeyHash}, made on ${day(notBefore)}`;
    const file = `${name.replace("/", "-")}-${publicKeyHash.slice(7, 15)}`;
    return [
      { what: `${name}.key (${what})`, at: key, file: `${file}.key`, place: `${name}.key`, mode: 0o600 },
      { what: `${name}.crt (${what})`, at: cert, file: `${file}.crt`, place: `${name}.crt`, mode: 0o644 },
    ].map(({ at, place, ...one }) => ({
      ...one,
      content: at.pem,
      from: `byte ${at.offset} of ${path}`,
      source: SOURCE,
      place: `${certificatesDir}/${place}`,
    }));
  });
}

/** Texts that may be a lost file which the API server's flags name. */
export function unprovedConfigs(lost: LostConfig, candidates: readonly TextFind[], { path }: DiskFound): Unproved[] {
  const name = lost.path.split("/").at(-1)!;
  return candidates.slice(0, FEW).map(({ text, offset }, i) => ({
    what: `${lost.path}, ${i + 1} of ${candidates.length} found`,
    from: `byte ${offset} of ${path}`,
    source: SOURCE,
    content: text,
    file: `${lost.flag.replace(/^-+/, "")}-${i + 1}-${name}`,
    place: lost.path,
  }));
}

/** Manifests, kubeconfigs and configurations for a person to look through: one file a kind, however many there are. */
export function looseTexts({ texts, path, dropped }: DiskFound): Unproved[] {
  const kinds = Map.groupBy(texts, ({ kind }) => kind);
  return [...kinds].map(([kind, finds]) => ({
    what: `${finds.length} ${finds.length === 1 ? kind : `${kind}s`}${dropped > 0 ? ", not all of those on the disk" : ""}`,
    from: path,
    source: SOURCE,
    content: finds.map((find) => `# ${nameOf(find)}, at byte ${find.offset}\n${find.text.replace(/\n?$/, "\n")}---\n`).join(""),
    file: `${kind}s-on-disk.yaml`,
  }));
}

function nameOf(find: TextFind): string {
  const name = find.kind === "manifest" ? find.name : find.kind === "kubeconfig" ? find.user : find.configKind;
  return name.replaceAll(/[^\w.:@-]+/g, "-").slice(0, 100);
}

/** Proved keys that stay out of their place: earlier ones, or those among which a person has to choose. */
export function unchosenKeys(found: readonly FoundKey[], certificatesDir: string): Unproved[] {
  return found.flatMap((one) => {
    const { wanted, generation, from } = one;
    const file = `${wanted.name.replace("/", "-")}-${generation.hash.slice(7, 15)}`;
    return pairOf(one).map(([name, content]) => ({
      what: `${name} (${labelOf(generation)})`,
      from,
      source: "this node" as const,
      why: "another one may be in use",
      content,
      file: `${file}${name.slice(name.lastIndexOf("."))}`,
      place: `${certificatesDir}/${name}`,
      mode: name.endsWith(".crt") ? 0o644 : 0o600,
    }));
  });
}
