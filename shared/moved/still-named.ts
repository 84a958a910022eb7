/**
 * Finds old addresses that are still named, as whole words: in one pass over the values in etcd's data,
 * whatever their format, and one over this node's files. People have to change these: a webhook by URL,
 * Endpoints of their own, a policy, a balancer's backends, a kubeconfig. Values that the cluster or this kit
 * rewrites are left out.
 */
import { isIP } from "node:net";
import type { EtcdData } from "../etcd-data/data.ts";
import { type TextHere, textsHere } from "../files/untrusted-file.ts";
import { registryPrefix } from "../objects/stored.ts";
import { asMoved, isServer, type Moved } from "../pki/addresses.ts";
import { plainLine } from "../plain.ts";
import { sayNames } from "../progress.ts";
import { say } from "../run.ts";

/** Keys below the prefix that their owners rewrite, or that only record the past. */
const BY_ITSELF =
  /^(minions|pods|leases|events|masterleases|csinodes|certificatesigningrequests|controllerrevisions)\//;
const KUBERNETES = /^(services\/endpoints\/default\/kubernetes|endpointslices\/default\/kubernetes)$/;

/** kubeadm's copies of the past. */
const KUBEADMS_OWN = "/etc/kubernetes/tmp/";

/** `where`: a key below the prefix, such as "configmaps/shop/settings", or a file; with the old addresses in it. */
interface StillNamed {
  where: string;
  addresses: string[];
  /** Why a part of this folder was skipped. */
  unseen?: string;
}

export function namedInData(data: EtcdData, moved: Moved): StillNamed[] {
  const prefix = `${registryPrefix(data)}/`;
  return data.keys(prefix).flatMap((full) => {
    const key = full.slice(prefix.length);
    if (BY_ITSELF.test(key) || KUBERNETES.test(key)) return [];
    const bytes = data.get(full)?.value;
    // protobuf's length or tag before it is no letter of a word
    return bytes ? namedAddresses(plainLine(key), Buffer.from(bytes).toString("latin1"), moved) : [];
  });
}

/** Finds them in this node's own files, and in its users'. */
export function namedInFiles(moved: Moved, texts: Generator<TextHere> = textsHere()): StillNamed[] {
  return texts
    .flatMap((one) => {
      const path = plainLine(one.path);
      if ("unseen" in one) return [{ where: path, addresses: [], unseen: one.unseen }];
      return path.startsWith(KUBEADMS_OWN) ? [] : namedAddresses(path, one.text, moved);
    })
    .toArray();
}

function namedAddresses(where: string, text: string, moved: Moved): StillNamed[] {
  const addresses = [...moved].filter((pair) => isIn(text, pair)).map(([old]) => old);
  return addresses.length > 0 ? [{ where, addresses }] : [];
}

/** Finds IPv6 in any of its forms. */
function isIn(text: string, [old, today]: [string, string]): boolean {
  const isAddress6 = isIP(old) === 6;
  if (!isAddress6 && !text.toLowerCase().includes(old)) return false;
  const only = new Map([[old, today]]);
  if (isServer(old)) return asMoved(text, only) !== text;
  const words = text.split(/[^\w.:-]+/).filter((word) => !isAddress6 || word.includes(":"));
  return words.some((word) => asMoved(` ${word} `, only) !== ` ${word} `);
}

/** Printed for people: only they know whether it is meant. */
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
