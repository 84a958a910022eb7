/** Names and addresses of the nodes, all computed: cp1 is 10.250.0.11 or fd00:250::11, w1 10.250.0.21. */
import { Fail } from "../../../shared/fail.ts";
import { addressIn, type Family, podsOf } from "./families.ts";
import { balancerIn } from "./network.ts";
import type { NodeSpec } from "./node.ts";

export function layout(
  {
    controlPlanes,
    workers,
    nodeDomain = "",
    bridges = true,
    families = [4],
  }: {
    controlPlanes: number;
    workers: number;
    nodeDomain?: string;
    bridges?: boolean;
    families?: readonly Family[];
  },
  pauseImage: string,
): NodeSpec[] {
  if (!(controlPlanes >= 1 && controlPlanes <= 9 && workers >= 0 && workers <= 200)) {
    throw new Fail(`The lab cannot have ${controlPlanes} control plane nodes and ${workers} workers`, {
      hint: "it can have 1 to 9 control plane nodes and 0 to 200 workers",
    });
  }
  const all = [
    ...numbered(controlPlanes, (n) => ({
      ...addressesOf(`cp${n}`, families),
      hostName: `cp${n}${nodeDomain}`,
    })),
    // A worker's host name is not its node name: a repair that takes one for the other is caught.
    ...numbered(workers, (n) => ({ ...addressesOf(`w${n}`, families), hostName: `lab-w${n}-host` })),
  ];
  const hosts = [
    ...families.map((family) => `${balancerIn(family)} lab-api`),
    ...all.flatMap(({ ips, hostName }) => ips.map((ip) => `${ip} ${hostName}`)),
  ];
  const subnets = (i: number) => (bridges ? { podSubnets: families.map((family) => podsOf(family, i)) } : {});
  return all.map((node, i) => ({
    ...node,
    nodeName: `${node.name}${nodeDomain}`,
    hosts,
    pauseImage,
    ...subnets(i),
  }));
}

/** Those of cp1, w12 and so on; `ip` is the first. */
function addressesOf(name: string, families: readonly Family[]) {
  const ips = families.map((family) => addressIn(family, numberOf(name)));
  return { name, ip: ips[0]!, ips };
}

/** The IPv4 address of cp1, w12 and so on. */
export function addressOf(name: string): { name: string; ip: string } {
  return { name, ip: addressIn(4, numberOf(name)) };
}

function numberOf(name: string): number {
  const [, kind, number] = /^(cp|w)(\d+)$/.exec(name)!;
  return (kind === "cp" ? 10 : 20) + Number(number);
}

function numbered<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i + 1));
}
