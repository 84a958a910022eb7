/**
 * The lab's addresses in both families. A host has the same number in each: cp1 is 10.250.0.11 and fd00:250::11, in digits
 * that are read as they are written.
 */
export type Family = 4 | 6;

const NETWORKS = {
  4: { host: (number: string) => `10.250.0.${number}`, bits: 24 },
  6: { host: (number: string) => `fd00:250::${number}`, bits: 64 },
} as const;

export function addressIn(family: Family, number: number): string {
  return NETWORKS[family].host(String(number));
}

/** With its prefix, as `ip addr add` takes it. */
export function withPrefix(address: string): string {
  return `${address}/${NETWORKS[familyOf(address)].bits}`;
}

/** Of an address, or of a network. */
export function familyOf(address: string): Family {
  return address.includes(":") ? 6 : 4;
}

/** Pods of the node with this number hang on its bridge. */
export function podsOf(family: Family, node: number): string {
  return family === 4 ? `10.244.${node}.0/24` : `fd00:244:0:${node}::/64`;
}

/** All pods', and all Services', as kubeadm's configuration has them. */
export const SUBNETS = {
  4: { pods: "10.244.0.0/16", services: "10.97.0.0/16" },
  6: { pods: "fd00:244::/48", services: "fd00:97::/108" },
} as const;

/** As a URL, a socket and haproxy have it: "[fd00:250::11]:6443". */
export function hostPort(address: string, port: number): string {
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}
