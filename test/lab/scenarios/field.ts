/** The most frequent disasters on clusters as the field has them: a real network plugin. */
import { calico } from "../machine/calico.ts";
import { type Profile, USUAL } from "../machine/profile.ts";
import type { Scenario } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";
import { expired } from "./expired.ts";
import { pkiLostAlive } from "./keys-in-memory.ts";

const CLUSTERS: { name: string; words: string; profile: () => Profile }[] = [
  { name: "calico", words: "Calico with Typha in kube-system", profile: () => ({ ...USUAL, podNetwork: calico(), pings: true }) },
  {
    name: "calico-system",
    words: "Calico with Typha in calico-system, as its operator has it",
    profile: () => ({ ...USUAL, podNetwork: calico("calico-system"), pings: true }),
  },
];

const DISASTERS: [suffix: string, scenario: Scenario][] = [
  ["", allLost],
  ["-pki-lost-alive", pkiLostAlive],
  ["-expired", expired],
];

export const fieldScenarios: Scenario[] = CLUSTERS.flatMap(({ name, words, profile }) =>
  DISASTERS.map(([suffix, scenario]) => ({ ...scenario, name: `${name}${suffix}`, title: `${words}: ${scenario.title}`, profile })),
);
