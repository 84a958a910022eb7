/**
 * What still names an old address, as whole words: one pass over the values in etcd's data, whatever their format,
 * and one over this node's files. The rest is people's: a webhook by URL, Endpoints of their own, a policy, a
 * balancer's backends, a kubeconfig. What the cluster or this kit rewrites by itself is left out.
 */
import { isIP } from "node:net";
import type { EtcdData } from "../etcd-data/data.ts";
import { type TextHere, textsHere } from "../files/untrusted-file.ts";
import { registryPrefix } from "../objects/stored.ts";
import { asMoved, isServer, type Moved } from "../pki/addresses.ts";
import { plainLine } from "../plain.ts";
import { sayNames } from "../progress.ts";
import { say } from "../run.ts";

/** Rewritten by whoever owns them, or of yesterday only; below the prefix. */
const BY_ITSELF =
  /^(minions|pods|leases|events|masterleases|csinodes|certificatesigningrequests|controllerrevisions)\//;
const KUBERNETES = /^(services\/endpoints\/default\/kubernetes|endpointslices\/default\/kubernetes)$/;

/** What kubeadm keeps of a time before. */
const KUBEADMS_OWN = "/etc/kubernetes/tmp/";

/** `where`: a key below the prefix, such as "configmaps/shop/settings", or a file; with the old addresses in it. */
interface StillNamed {
  where: string;
  addresses: string[];
  /** Why not all below this folder was looked at. */
  unseen?: string;
}

export function namedInData(data: EtcdData, moved: Moved): StillNamed[] {
  const prefix = `${registryPrefix(data)}/`;
  return data.keys(prefix).flatMap((full) => {
    const key = full.slice(prefix.length);
    if (BY_ITSELF.test(key) || KUBERNETES.test(key)) return [];
    const bytes = data.get(full)?.value;
    // a length or a tag of protobuf before it is no letter of a word
    return bytes ? named(plainLine(key), Buffer.from(bytes).toString("latin1"), moved) : [];
  });
}

/** In this node's own files, and in those of its people. */
export function namedInFiles(moved: Moved, texts: Generator<TextHere> = textsHere()): StillNamed[] {
  return texts
    .flatMap((one) => {
      const where = plainLine(one.path);
      if ("unseen" in one) return [{ where, addresses: [], unseen: one.unseen }];
      return where.startsWith(KUBEADMS_OWN) ? [] : named(where, one.text, moved);
    })
    .toArray();
}

function named(where: string, text: string, moved: Moved): StillNamed[] {
  const addresses = [...moved].filter((pair) => isIn(text, pair)).map(([old]) => old);
  return addresses.length > 0 ? [{ where, addresses }] : [];
}

/** IPv6 in any of its forms. */
function isIn(text: string, [old, today]: [string, string]): boolean {
  const isAddress6 = isIP(old) === 6;
  if (!isAddress6 && !text.toLowerCase().includes(old)) return false;
  const only = new Map([[old, today]]);
  if (isServer(old)) return asMoved(text, only) !== text;
  const words = text.split(/[^\w.:-]+/).filter((word) => !isAddress6 || word.includes(":"));
  return words.some((word) => asMoved(` ${word} `, only) !== ` ${word} `);
}

/** For people: nobody else knows whether it is meant. */
export function sayStillNamed(found: readonly StillNamed[], none: string, how: string) {
  const [unseen, rest] = [found.filter((one) => one.unseen), found.filter((one) => !one.unseen)];
  if (rest.length === 0) say(none);
  sayNames(
    `for whoever made them: is it meant? ${how}`,
    rest.map(({ where, addresses }) => `${where} (${addresses.join(", ")})`),
  );
  sayNames(
    "not seen, or not all of it",
    unseen.map((one) => `${one.where} (${one.unseen})`),
  );
}
