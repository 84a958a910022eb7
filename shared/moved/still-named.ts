/**
 * What still names an old address: one pass over the values in etcd's data, as whole words, whatever their
 * format. The rest is people's: a webhook by URL, Endpoints of their own, a policy. What the cluster rewrites
 * by itself is left out.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { registryPrefix } from "../objects/stored.ts";
import { asMoved, type Moved } from "../pki/addresses.ts";

/** Rewritten by whoever owns them, or of yesterday only; below the prefix. */
const BY_ITSELF =
  /^(minions|pods|leases|events|masterleases|csinodes|certificatesigningrequests|controllerrevisions)\//;
const KUBERNETES = /^(services\/endpoints\/default\/kubernetes|endpointslices\/default\/kubernetes)$/;

/** Keys below the prefix, such as "configmaps/shop/settings", each with the old addresses in it. */
export function stillNamed(data: EtcdData, moved: Moved): { key: string; addresses: string[] }[] {
  const prefix = `${registryPrefix(data)}/`;
  return data.keys(prefix).flatMap((full) => {
    const key = full.slice(prefix.length);
    if (BY_ITSELF.test(key) || KUBERNETES.test(key)) return [];
    const bytes = data.get(full)?.value;
    const addresses = bytes ? [...moved.keys()].filter((old) => isIn(Buffer.from(bytes), old, moved)) : [];
    return addresses.length > 0 ? [{ key, addresses }] : [];
  });
}

/** IPv6 in its canonical form alone, where it stands in no text of a known format. */
function isIn(bytes: Buffer, old: string, moved: Moved): boolean {
  if (!bytes.includes(old)) return false;
  // a length or a tag of protobuf before it is no letter of a word
  const words = bytes.toString("latin1").split(/[^\w.:-]+/);
  return words.some((word) => word.includes(old) && asMoved(` ${word} `, moved) !== ` ${word} `);
}
