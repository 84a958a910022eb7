/** The end of a salvage: what is still lost, where it was looked for, and the way on. */
import { again, command, inOneLine } from "../again.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { lookAtControlPlaneNode } from "../facts/control-plane-node.ts";
import { withoutKeys } from "../facts/course.ts";
import type { Fail } from "../fail.ts";
import { tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { refuseRivals } from "./found-keys.ts";
import type { Salvage } from "./look.ts";
import { isIrreplaceable } from "./wanted-keys.ts";

interface Searched {
  /** Where it really looked, for the operator. */
  notFound: readonly string[];
  /** Other keys are moved out of the way. */
  moveToRescue: boolean;
  /** What a person has to choose. */
  question: Fail | undefined;
}

/**
 * Returns the next command where all that matters is here; else says what is lost. Errors: as `refuseRivals`;
 * the question.
 */
export function nextAfterSalvage(
  salvage: Salvage,
  { notFound, moveToRescue, question }: Searched,
): string | undefined {
  const { foundKeys, expired, strange, here } = salvage;
  refuseRivals(foundKeys);
  if (question) throw question;
  const lost = foundKeys.missing().filter(({ shared }) => shared);
  const files = lost.map(({ keyFile }) => keyFile).join(", ");
  const stillLost = `\nstill lost: ${files}: ${notFound.length > 0 ? `not found in ${notFound.join(", ")}; ` : ""}`;
  const names = (keys: readonly { name: string }[]) => keys.map(({ name }) => name);
  const issue = (made: readonly string[]) => nextCommand(salvage, made);
  if (lost.length > 0 && canReadNow(salvage)) {
    tell(
      `${stillLost}etcd's data can be read now, so more can be proved and found: ${command("00-salvage")}`,
    );
    return undefined;
  }
  const inTheWay = strange && !moveToRescue;
  if (inTheWay)
    tell(`\nstill lost: ca.key: ${NOT_THE_CLUSTERS}: ${again({ "move-aside": true }, { of: "00-salvage" })}`);
  if (lost.some(isIrreplaceable)) {
    const away = strange && moveToRescue ? shell`mv ${here.certificatesDir}/ca.{crt,key} /root/, then ` : "";
    tell(`${stillLost}${LOOK_ELSEWHERE}\nif they are nowhere: ${away}${issue(names(lost))}`);
    return undefined;
  }
  if (inTheWay) return undefined;
  if (expired.length > 0) {
    tell(`\nexpired: ${names(expired).join(", ")}; this makes new ones: ${issue(names(expired))}`);
    return undefined;
  }
  if (lost.length > 0)
    tell(`${stillLost}only control plane nodes trust them; the next command makes new ones`);
  return issue(names(lost));
}

/**
 * The commands that make these keys new. Where part 1 would stop, as it cannot read the cluster's facts: what
 * comes before it.
 */
export function nextCommand({ here, oldKey, etcd }: Salvage, made: readonly string[]): string {
  const { obstacle, data, cluster } = here;
  if (obstacle instanceof DamagedData) return obstacle.hint;
  if (!data || cluster || !obstacle) return inOneLine(withoutKeys(made, oldKey, { etcd }));
  return obstacle.hint;
}

/** What was brought back may have opened it: an encryption configuration. */
function canReadNow({ here }: Salvage): boolean {
  const couldNot = here.data !== undefined && here.cluster === undefined;
  return couldNot && lookAtControlPlaneNode(here.etcd, undefined, here.certificatesDir).cluster !== undefined;
}

const NOT_THE_CLUSTERS = "the CA here is not the cluster's. This looks for the cluster's own";

const LOOK_ELSEWHERE =
  "look on the other control plane nodes (this script, there) and in backups; carry what is found here with ./bunw scripts/hand-over.ts";
