/** What etcd's data holds of the attack when the disaster has happened: the repair goes by that, so without it nothing was tried. */
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { readObject } from "../../../shared/k8s/stored.ts";
import type { Scene } from "../scene/scene.ts";
import { TEAM } from "./attacker.ts";
import { compromised } from "./intruder.ts";
import { mirrorPods, played } from "./objects.ts";

export function attackIsInEtcd({ lab, checks }: Scene) {
  using data = readEtcdData(lab.controlPlanes[0]!.path("/var/lib/etcd"));
  const { nodeName } = compromised(lab);
  const node = readObject<{ status: { addresses: { address: string }[] } }>(data, `minions/${nodeName}`);
  const lies = node?.status.addresses.some(({ address }) => address === "lab-api");
  // what was deleted counts as well, as long as etcd remembers it
  const keys = [...data.keys(`/registry/pods/${TEAM}/`), ...data.deletedKeys(`/registry/pods/${TEAM}/`)];
  const missing = mirrorPods(lab.controlPlanes).filter(({ metadata }) => !keys.includes(`/registry/pods/${TEAM}/${metadata.name}`));
  checks.push({
    name: "the attack is in etcd's data after the wreck",
    ok: (lies || !played("worker")) && (missing.length === 0 || !played("mirrors")),
    detail: `${nodeName} ${lies ? "has" : "does not have"} the API's names; ${missing.length} mirror pods are missing`,
  });
}
