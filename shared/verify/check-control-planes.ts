/** Several control plane nodes have to agree: a token that one signs, each other accepts, and all of them hold the same CAs. */

import { adminClient } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { otherControlPlanes } from "../facts/next.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { newToken, review } from "../workloads/token-secrets.ts";
import type { Checks } from "./collect.ts";

/** One check for each other control plane node; none where there is only this one. */
export async function checkControlPlanes(checks: Checks, cp: ControlPlaneNode, api: KubeApi) {
  const others = otherControlPlanes(cp.cluster, cp);
  for (const { name, ips } of others) {
    await checks.check(
      "control plane nodes",
      `${name} accepts a token that this control plane node signed, and the other way round`,
      async () => {
        if (!(await api.find(`/api/v1/nodes/${name}`))) return "it is no Node any more";
        const there = adminClient(cp.facts, endpointUrl(ips[0] ?? name, cp.facts.bindPort));
        if (!(await review(there, await newToken(api)))) throw new Error(`${name} does not accept ours: its sa.pub is another`);
        if (!(await review(api, await newToken(there)))) throw new Error(`this one does not accept ${name}'s: its sa.key is another`);
        return "both ways";
      },
    );
  }
}
