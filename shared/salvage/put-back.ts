/**
 * Ends a salvage: what is proved goes into its place, all of it or nothing; what is not proved goes to the
 * rescue folder, and is named.
 */
import { dirname } from "node:path";
import { again } from "../again.ts";
import { keepUnproved, type Unproved } from "../evidence/sources.ts";
import type { LostFile } from "../facts/lost-file.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { Fail } from "../fail.ts";
import { placeKeys } from "../hand-over/place-keys.ts";
import { writerIn } from "../objects/stored.ts";
import { day } from "../pki/certificate.ts";
import { type PkiPlace, sharedPath } from "../pki/certs.ts";
import { mode, say } from "../run.ts";
import { readYaml } from "../yaml.ts";
import { copiesIn } from "./backup-files.ts";
import { chooseConfig, type LostConfig, opensNothing } from "./disk/encryption-config.ts";
import type { ConfigFind } from "./disk/pem-block.ts";
import type { DiskFound } from "./disk-search.ts";
import type { FoundCopy } from "./found-copy.ts";
import { dropStash, type FoundKey, type FoundKeys, pairOf } from "./found-keys.ts";
import { type Holders, mountedFiles, mountedKubeconfigs } from "./memory/processes.ts";
import { labelOf } from "./wanted-keys.ts";

export interface Brought {
  here: PartialFacts;
  foundKeys: FoundKeys;
  processes: Holders;
  files: LostFile[];
  /** The lost files that a disk's blocks may have. */
  configs: LostConfig[];
  backup: string | undefined;
  disk: DiskFound;
}

/**
 * Runs only after all searches: a search must not meet what we write. Keys come first: an error about what a stranger
 * may have laid out is thrown when they are in their places. Returns what a person has to choose then. Errors: as
 * `placeKeys`, with nothing written.
 */
export function putBack(
  brought: Brought,
  { moveToRescue }: { moveToRescue: boolean | undefined },
): Fail | undefined {
  const { foundKeys, here } = brought;
  const files = foundKeys.files();
  const keys = foundKeys.wanted.filter(({ keyFile }) => files.has(keyFile));
  const found = foundBeside(brought, files.get("ca.crt"));
  const unproved = [...unchosenKeys(foundKeys.unchosen(), here), ...found.unproved];
  if (keys.length + found.proved.length === 0)
    say(unproved.length > 0 ? "nothing is put back" : "nothing was found");
  else placeKeys(keys, files, here, { moveToRescue, source: "the salvage", more: found.proved });
  keepUnproved(unproved, dirname(here.asideDir));
  if (!mode.dryRun) dropStash();
  if (found.trouble !== undefined) throw found.trouble;
  return found.question;
}

/**
 * Kubeconfigs, configurations, and CAs that nothing names. `trouble`: an unexpected error, a bug that the found data
 * has met.
 */
function foundBeside(brought: Brought, ca: Uint8Array | undefined) {
  const { here, processes, files, configs, backup, disk } = brought;
  try {
    const mounted = ca ? mountedKubeconfigs(processes.own, Buffer.from(ca).toString("utf8")) : [];
    const copies = backup === undefined ? [] : copiesIn(backup, files);
    // the surest source of a file comes first
    const all = [...mounted, ...mountedFiles(processes.own, files), ...copies];
    const taken = all.filter(({ path }, i) => all.findIndex((one) => one.path === path) === i);
    const isShut = ({ path, content }: FoundCopy) =>
      configs.some(
        (lost) => lost.path === path && opensNothing(Buffer.from(content).toString("utf8"), here.data),
      );
    for (const { from } of copies.filter((copy) => taken.includes(copy) && isShut(copy)))
      say(
        `warning: ${from} does not open the encrypted values in etcd: it may be a newer or an older copy. It is used all the same, as you chose`,
      );
    const open = configs.filter((lost) => !taken.some(({ path }) => path === lost.path));
    const choices = open.map((lost) => ({ lost, ...chooseConfig(disk.configs, here.data) }));
    const opened = choices.flatMap(({ lost: { path }, proved: content }): FoundCopy[] =>
      content ? [{ path, content, from: "out of the disk's blocks: it decrypts etcd's data" }] : [],
    );
    return {
      proved: [...taken, ...opened].map(({ from, mode = 0o600, ...one }) => ({ ...one, mode, note: from })),
      unproved: [
        ...unprovedPairs(disk, here),
        ...choices.flatMap(({ lost, unproved }) => unprovedConfigs(lost, unproved, disk)),
        ...choices.flatMap(({ lost, rivals }) => unprovedConfigs(lost, rivals, disk, whyAsked(rivals))),
      ],
      question: questionOf(choices),
      trouble: undefined,
    };
  } catch (trouble) {
    return { proved: [], unproved: [], question: undefined, trouble };
  }
}

/** Several encryption configurations open etcd's data, or the only one of them writes in clear. */
function questionOf(
  choices: readonly { lost: LostConfig; rivals: readonly ConfigFind[] }[],
): Fail | undefined {
  const open = choices.find(({ rivals }) => rivals.length > 0);
  if (!open) return undefined;
  return new Fail(`${open.lost.path}: ${whyAsked(open.rivals)}`, {
    hint: `type the install line of the right one, above, then ${again({})}. New values are written with its first key`,
  });
}

function whyAsked({ length }: readonly ConfigFind[]): string {
  return length > 1
    ? `${length} versions decrypt etcd's data, and each can be the one in use`
    : "new values would be written in clear: identity is its first provider";
}

/**
 * A stranger can lay out any number. So many of each thing get a file and a command of their own.
 */
const FEW = 5;

const SOURCE = "a disk's blocks";

/**
 * CAs of which the cluster knows nothing, as etcd's own where its ca.crt is gone. That key and certificate
 * belong together is no proof.
 */
function unprovedPairs({ pairs, path }: DiskFound, pkiPlace: PkiPlace): Unproved[] {
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
      place: sharedPath(place, pkiPlace),
    }));
  });
}

/**
 * Encryption configurations that may be the lost one. `why`: of those that are proved, and among
 * which a person chooses: all.
 */
function unprovedConfigs(
  lost: LostConfig,
  candidates: readonly ConfigFind[],
  { path }: DiskFound,
  why?: string,
): Unproved[] {
  const name = lost.path.split("/").at(-1)!;
  return candidates.slice(0, why ? undefined : FEW).map(({ text, offset }, i) => ({
    what: `${lost.path}, ${i + 1} of ${candidates.length} found${why ? `, writes with ${writerIn(readYaml(text))}` : ""}`,
    from: `byte ${offset} of ${path}`,
    source: SOURCE,
    why,
    content: text,
    file: `${lost.namedBy.replace(/^-+/, "")}-${i + 1}-${name}`,
    place: lost.path,
  }));
}

/** Proved keys that stay out of their place: earlier ones, or those among which a person has to choose. */
function unchosenKeys(found: readonly FoundKey[], pkiPlace: PkiPlace): Unproved[] {
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
      place: sharedPath(name, pkiPlace),
      mode: name.endsWith(".crt") ? 0o644 : 0o600,
    }));
  });
}
