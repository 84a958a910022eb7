/**
 * The most frequent disasters on clusters with other addresses: `ipv6` has nothing else than IPv6, `dual-stack` has both
 * families, IPv6 first. kubeadm then has etcd listen at [::1].
 */
import type { Family } from "../machine/families.ts";
import { USUAL } from "../machine/profile.ts";
import type { Scenario } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";
import { expired } from "./expired.ts";
import { pkiLostAlive } from "./keys-in-memory.ts";
import { moved } from "./moved.ts";
import { haAllLost } from "./several-control-planes.ts";

const BASES: readonly [name: (cluster: string) => string, base: Scenario][] = [
  [(cluster) => cluster, allLost],
  [(cluster) => `ha-${cluster}`, haAllLost],
  [(cluster) => `${cluster}-pki-lost-alive`, pkiLostAlive],
  [(cluster) => `${cluster}-expired`, expired],
  [(cluster) => `${cluster}-moved`, moved],
];

const CLUSTERS: readonly [name: string, title: string, families: readonly Family[]][] = [
  ["ipv6", "IPv6 alone", [6]],
  ["dual-stack", "both families, IPv6 first", [6, 4]],
];

export const ipv6Scenarios: Scenario[] = CLUSTERS.flatMap(([cluster, title, families]) =>
  BASES.map(([name, base]) => ({
    ...base,
    name: name(cluster),
    title: `With ${title}: ${base.title}`,
    profile: () => ({ ...USUAL, families }),
  })),
);
