/** Before part 1 makes shared keys anew: other masters may still have them, or a process here that part 1 would stop. Reads only. */

import { type Sister, servesOurCa, sistersOf } from "../etcd/peers.ts";
import { refuseStrangers } from "../facts/cluster.ts";
import { readKnown } from "../facts/evidence.ts";
import type { Master } from "../facts/master.ts";
import { Fail } from "../fail.ts";
import { certRow } from "../pki/certs.ts";
import { examine, type Finding } from "../pki/examine.ts";
import { say } from "../run.ts";
import { Haul } from "./haul.ts";
import { processesHere, searchMemory } from "./memory-search.ts";
import { isDear, wantedKeys } from "./wanted-keys.ts";

/** Looks which other masters' etcds run, and says so. Errors: Fail where one of them cannot share an etcd CA with this master. */
export async function lookAtSisters({ data, node, facts }: Master): Promise<Sister[]> {
  const sisters = await sistersOf(data, node.addresses);
  for (const sister of sisters) say(`${sister.name}, ${sister.host}: ${sister.servedPem ? "etcd runs there" : "no etcd answers"}`);
  const alive = sisters.filter((sister) => sister.servedPem);
  if (alive.length > 0 && examine(certRow("etcd-ca"), facts).state !== "ok") {
    throw new Fail(`etcd runs on ${names(alive)}, and the CA of etcd is not here: a new one would shut it out`, {
      hint:
        `bring the shared keys from there: on ${alive[0]?.name} ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
        "If they are lost there as well: systemctl stop kubelet there, stop its etcd with crictl, and run this again",
    });
  }
  const foreign = alive.filter((sister) => !servesOurCa(sister, facts));
  if (foreign.length > 0) {
    throw new Fail(`etcd on ${names(foreign)} shows a certificate of another CA than etcd/ca.crt here`, {
      hint:
        "one etcd needs one CA: which of them is the right one? ./bunw scripts/00-assess.ts on all. On each that has a wrong one: systemctl stop kubelet, " +
        "stop its etcd with crictl, and take the right one with ./bunw scripts/hand-over.ts unpack --move-aside FILE",
    });
  }
  return alive;
}

/**
 * A master whose etcd runs has the shared keys, or had them a moment ago: they are copied, not replaced, unless the operator says that they are
 * lost there, too (`lostOn`). Errors: Fail that names these masters.
 */
export function refuseWhereOthersLive(made: readonly Finding[], alive: readonly Sister[], lostOn: readonly string[], { cluster }: Master) {
  refuseStrangers(lostOn, cluster);
  const open = alive.filter(({ name }) => !lostOn.includes(name));
  if (made.length === 0 || open.length === 0) return;
  const keys = made.map(({ name }) => name).join(", ");
  throw new Fail(`etcd runs on ${names(open)}, which may still have ${keys}: with keys of their own, masters refuse each other`, {
    hint:
      `if one has them: there ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
      `Lost on all of them as well: the same command with --lost-on ${alive.map(({ name }) => name).join(",")}`,
  });
}

/**
 * Part 1 stops what still runs of the old control plane, and its memory is gone then. Errors: Fail where it holds one of these keys. Only where
 * ca.key is gone for good, sa.key alone does not stop it: an API server that is ending holds that for a minute, and pods restart anyway.
 */
export async function refuseWhereMemoryHasThem(made: readonly Finding[], master: Master) {
  // One that has ended is of no use, wherever it is.
  const lost = made.filter(({ name, state }) => isDear({ name }) && state !== "expired").map(({ name }) => name);
  if (lost.length === 0) return;
  const known = readKnown({ data: master.data, node: master.node, certificatesDir: master.facts.certificatesDir });
  const wanted = wantedKeys(known, { certificatesDir: master.facts.certificatesDir }).filter(({ name }) => lost.includes(name));
  const haul = new Haul(wanted, { stash: false });
  await searchMemory(haul, { data: master.data, processes: await processesHere(master.node) });
  // any generation: which one is in use is for 00-salvage to say, not for whoever ends the process
  const found = wanted.flatMap((one) => haul.foundOf(one).slice(0, 1));
  if (found.length === 0) return;
  if (lost.includes("ca") && !found.some(({ wanted: { name } }) => name === "ca"))
    return say(
      "ca.key is lost, so that all goes on by a new CA (to keep old tokens valid, too: ./bunw scripts/00-salvage.ts memory before this)",
    );
  throw new Fail(`${found.map(({ wanted, from }) => `${wanted.keyFile} is still in ${from}`).join(", ")}: no new one is needed`, {
    hint: "./bunw scripts/00-salvage.ts memory puts back what is found; then ./bunw scripts/00-assess.ts says how to go on",
  });
}

function names(sisters: readonly Sister[]): string {
  return sisters.map(({ name }) => name).join(", ");
}
