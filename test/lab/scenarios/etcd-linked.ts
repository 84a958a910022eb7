import { lstatSync, readlinkSync } from "node:fs";
import { USUAL } from "../machine/profile.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const [LINK, CONTENT] = ["/var/lib/etcd", "/data/etcd"];

/** Somebody has moved etcd's folder to a faster disk and put a link in its place. */
export const etcdLinked: Scenario = {
  ...allLost,
  name: "etcd-linked",
  title: "As all-lost, and etcd's folder is a link to another disk's",
  profile: () => ({ ...USUAL, links: { [LINK]: CONTENT } }),
  lines: [
    ...allLost.lines,
    { title: "The link is still one, and etcd's data is where it leads", run: stillLinked },
  ],
};

async function stillLinked({ lab, checks }: Scene) {
  const place = lab.controlPlanes[0]!.path(LINK);
  const leads = lstatSync(place).isSymbolicLink() ? readlinkSync(place) : "it is no link any more";
  checks.push({ name: `${LINK} still leads to ${CONTENT}`, ok: leads === `../..${CONTENT}`, detail: leads });
}
