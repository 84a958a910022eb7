/** Several masters have to agree: a token that one signs, each other accepts, and all of them hold the same CAs. */

import { adminClient } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { Master } from "../facts/master.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { newToken, review } from "../workloads/token-secrets.ts";
import type { Checks } from "./collect.ts";

/** One check for each other master; none where there is only this one. */
export async function checkMasters(checks: Checks, master: Master, api: KubeApi) {
  const others = master.cluster.nodes.filter((node) => node.controlPlane && node.name !== master.node.name);
  for (const { name, ips } of others) {
    await checks.check("masters", `${name} accepts a token that this master signed, and the other way round`, async () => {
      if (!(await api.find(`/api/v1/nodes/${name}`))) return "it is no Node any more";
      const there = adminClient(master.facts, endpointUrl(ips[0] ?? name, master.facts.bindPort));
      if (!(await review(there, await newToken(api)))) throw new Error(`${name} does not accept ours: its sa.pub is another`);
      if (!(await review(api, await newToken(there)))) throw new Error(`this one does not accept ${name}'s: its sa.key is another`);
      return "both ways";
    });
  }
}
