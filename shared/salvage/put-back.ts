/** Ends a salvage: what is proved goes into its place, all of it or nothing; what is not proved goes to the rescue folder, and is named. */
import { dirname } from "node:path";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { placeKeys } from "../hand-over/place-keys.ts";
import { mode, say } from "../run.ts";
import { layAside, type Unproved } from "../trust/unproved.ts";
import type { DiskFound } from "./disk-search.ts";
import type { FoundKeys } from "./found-keys.ts";
import { chooseConfig, type LostConfig } from "./lost-configs.ts";
import { mountedKubeconfigs } from "./memory/mounted-kubeconfigs.ts";
import type { Holders } from "./memory/processes.ts";
import { dropStash } from "./stash.ts";
import { looseTexts, unchosenKeys, unprovedConfigs, unprovedPairs } from "./unproved-finds.ts";

/** What the searches have brought. */
export interface Brought {
  here: PartialFacts;
  foundKeys: FoundKeys;
  processes: Holders;
  /** Lost files that the API server's flags name. */
  configs: LostConfig[];
  disk: DiskFound;
}

/**
 * Runs only after all searches: a search must not meet what we write. Keys come first: an error about what a stranger may have laid out is
 * thrown when the keys are in their places. Errors: as `placeKeys`, with nothing written.
 */
export function putBack(brought: Brought, { moveAside }: { moveAside: boolean | undefined }) {
  const { foundKeys, here } = brought;
  const files = foundKeys.files();
  const keys = foundKeys.wanted.filter(({ keyFile }) => files.has(keyFile));
  const found = foundBeside(brought, files.get("ca.crt"));
  const unproved = [...unchosenKeys(foundKeys.unchosen(), here.certificatesDir), ...found.unproved];
  if (keys.length + found.proved.length === 0) say(unproved.length > 0 ? "nothing is put into its place" : "nothing was found");
  else placeKeys(keys, files, here, { moveAside, source: "the salvage", more: found.proved });
  layAside(unproved, dirname(here.asideDir));
  if (!mode.dryRun) dropStash();
  if (found.trouble !== undefined) throw found.trouble;
}

interface Beside {
  proved: { path: string; content: string; mode: number; note: string }[];
  unproved: Unproved[];
  /** An unexpected error: a bug that the found data has met. */
  trouble?: unknown;
}

/** What was found beside the keys: kubeconfigs, configurations, and CAs that nothing names. */
function foundBeside(brought: Brought, ca: Uint8Array | undefined): Beside {
  const { here, processes, configs, disk } = brought;
  try {
    const mounted = ca ? mountedKubeconfigs(processes.own, Buffer.from(ca).toString("utf8")) : [];
    const choices = configs.map((lost) => ({ lost, ...chooseConfig(lost, disk.texts, here.data) }));
    const opened = choices.flatMap(({ lost: { path }, proved }) =>
      proved ? [{ path, content: proved.text, from: `out of the disk's blocks: ${proved.proof}` }] : [],
    );
    return {
      proved: [...mounted, ...opened].map(({ path, content, from }) => ({ path, content, mode: 0o600, note: from })),
      unproved: [
        ...unprovedPairs(disk, here.certificatesDir),
        ...choices.flatMap(({ lost, unproved }) => unprovedConfigs(lost, unproved, disk)),
        ...looseTexts(disk),
      ],
    };
  } catch (trouble) {
    return { proved: [], unproved: [], trouble };
  }
}
