/** Names and addresses of the nodes, all computed: cp1 is 10.250.0.11, w1 10.250.0.21. */
import { Fail } from "../../../shared/fail.ts";
import { BALANCER } from "./network.ts";
import type { NodeSpec } from "./node.ts";

export function layout(
  {
    controlPlanes,
    workers,
    nodeDomain = "",
    bridges = true,
  }: { controlPlanes: number; workers: number; nodeDomain?: string; bridges?: boolean },
  pauseImage: string,
): NodeSpec[] {
  if (!(controlPlanes >= 1 && controlPlanes <= 9 && workers >= 0 && workers <= 200)) {
    throw new Fail(`The lab cannot have ${controlPlanes} control plane nodes and ${workers} workers`, {
      hint: "it can have 1 to 9 control plane nodes and 0 to 200 workers",
    });
  }
  const all = [
    ...numbered(controlPlanes, (n) => ({ ...addressOf(`cp${n}`), hostName: `cp${n}${nodeDomain}` })),
    // A worker's host name is not its node name: a repair that takes one for the other is caught.
    ...numbered(workers, (n) => ({ ...addressOf(`w${n}`), hostName: `lab-w${n}-host` })),
  ];
  const hosts = [`${BALANCER} lab-api`, ...all.map(({ ip, hostName }) => `${ip} ${hostName}`)];
  const subnet = (i: number) => (bridges ? { podSubnet: `10.244.${i}.0/24` } : {});
  return all.map((node, i) => ({
    ...node,
    nodeName: `${node.name}${nodeDomain}`,
    hosts,
    pauseImage,
    ...subnet(i),
  }));
}

/** The address of cp1, w12 and so on. */
export function addressOf(name: string): { name: string; ip: string } {
  const [, kind, number] = /^(cp|w)(\d+)$/.exec(name)!;
  return { name, ip: `10.250.0.${(kind === "cp" ? 10 : 20) + Number(number)}` };
}

function numbered<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i + 1));
}
