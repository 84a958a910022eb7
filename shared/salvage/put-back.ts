/** The end of a salvage: what is proved goes into its place, all of it or nothing; what is not goes to the rescue folder, and is named. */
import { dirname } from "node:path";
import { type Here, placeKeys } from "../hand-over/unpack.ts";
import { mode, say } from "../run.ts";
import { layAside } from "../trust/unproved.ts";
import type { DiskFound } from "./disk-search.ts";
import { dropStash, type Haul } from "./haul.ts";
import { chooseConfig, type LostConfig } from "./lost-configs.ts";
import { mountedKubeconfigs } from "./memory/mounted.ts";
import type { Holders } from "./memory/processes.ts";
import { looseTexts, unchosenKeys, unprovedConfigs, unprovedPairs } from "./unproved-finds.ts";

/** What the searches have brought. */
export interface Brought {
  here: Here;
  haul: Haul;
  processes: Holders;
  /** Files that the API server's flags name, and that are lost. */
  configs: LostConfig[];
  disk: DiskFound;
}

/** Only now that the search is over: nothing that is still searched through was written to. Errors: as `placeKeys`, with nothing written. */
export function putBack(brought: Brought, { moveAside }: { moveAside: boolean | undefined }) {
  const { haul, here, processes, configs, disk } = brought;
  const files = haul.files();
  const keys = haul.wanted.filter(({ keyFile }) => files.has(keyFile));
  const ca = files.get("ca.crt");
  const mounted = ca ? mountedKubeconfigs(processes.own, Buffer.from(ca).toString("utf8")) : [];
  const choices = configs.map((lost) => ({ lost, ...chooseConfig(lost, disk.texts, here.data) }));
  const proved = choices.flatMap(({ lost, proved }) =>
    proved ? [{ path: lost.path, content: proved.text, from: `out of the disk's blocks: ${proved.proof}` }] : [],
  );
  const more = [...mounted, ...proved];
  const unproved = [
    ...unchosenKeys(haul.unchosen(), here.certificatesDir),
    ...unprovedPairs(disk, here.certificatesDir),
    ...choices.flatMap(({ lost, unproved }) => unprovedConfigs(lost, unproved, disk)),
    ...looseTexts(disk),
  ];
  if (keys.length + more.length === 0) say(unproved.length > 0 ? "nothing that is proved was found" : "nothing was found");
  else
    placeKeys(keys, files, here, {
      moveAside,
      source: "the salvage",
      more: more.map(({ path, content, from }) => ({ path, content, mode: 0o600, note: from })),
    });
  layAside(unproved, dirname(here.asideDir));
  if (!mode.dryRun) dropStash();
}
