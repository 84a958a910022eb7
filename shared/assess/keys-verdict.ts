/**
 * The verdict if keys are lost: look for them; after `00-assess --deep` the recovery level and its commands.
 */

import { command, commandChain, inLines, inOneLine, type Todo } from "../again.ts";
import {
  courseFrom,
  type OldSaKey,
  partsHere,
  type RepairState,
  todosIfKeysAreLost,
  wholeRepairLine,
} from "../facts/course.ts";
import { lastLeaderElsewhere } from "../facts/leaders.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { CERTS, isInternal } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { isIrreplaceable } from "../salvage/wanted-keys.ts";
import type { Deep, KeyBeside, KeyPlace, LostKey, NodeVerdict } from "./assessment.ts";

/** Empty if only internal keys are lost: new ones cost nothing. */
export function lostAndWay(
  lostKeys: readonly Finding[],
  oldKey: OldSaKey,
): Pick<NodeVerdict, "lost" | "way"> {
  const names = lostKeys.map(({ name }) => name);
  if (names.every(isInternal)) return {};
  return {
    lost: names.map((name) => `${CERTS.find((row) => row.name === name)?.file ?? name}.key`),
    way: `00-assess --deep → 00-salvage → the line that it prints. If it finds no key: ${wholeRepairLine(names, oldKey)}`,
  };
}

/** All lost keys are in old folders beside, proved. */
export function besideVerdict(oldKeys: readonly KeyBeside[], hold: readonly Todo[]): NodeVerdict {
  const names = oldKeys.map(({ name }) => name).join(", ");
  const note = "puts them back, and says what comes next";
  return {
    rung: 1,
    verdict: `keys lost on this node: ${names}. They are in an old folder beside, proved by the cluster's public keys: ${oldKeys.map(({ path }) => path).join(", ")}`,
    next: inLines([...hold, { command: command("00-salvage files"), note }]),
  };
}

export function lostVerdict(names: readonly string[], oldKey: OldSaKey, hold: readonly Todo[]): NodeVerdict {
  const lost = `keys lost on this node: ${names.join(", ")}`;
  if (names.every(isInternal))
    return {
      rung: 0,
      verdict: `${lost}. Only control plane nodes trust them. Are they stored offline, or on another control plane node? Bring them. Else make new ones: nothing else changes`,
      next: inLines(partsHere(names)),
    };
  const madeNew = names.includes("ca") ? "new CA, every node rejoins" : "a new service-account key";
  return {
    verdict: `${lost}. Are they stored offline, or on another control plane node? Bring them. Else look for the old ones (00-salvage). If they are gone: ${madeNew}, pods restart`,
    next: inLines([
      ...hold,
      ...LOOK_FIRST,
      ...todosIfKeysAreLost(names, oldKey).map(({ command }) => ({ command, note: ONLY_IF_LOST })),
    ]),
  };
}

const LOOK_FIRST: readonly Todo[] = [
  { command: command("00-assess --deep"), note: "says where each key can still be found; reads only" },
  { command: command("00-salvage"), note: "looks for the old keys and puts them back" },
];

const ONLY_IF_LOST = "only if the old keys are nowhere to be found";

/** `hold`: as `InputHere`. */
type Asked = Pick<RepairState, "others" | "expired" | "leavesOut"> & { hold: readonly Todo[] };

export function deepVerdict(
  deep: Deep,
  { cluster, cp }: PartialFacts,
  { hold, ...state }: Asked,
): NodeVerdict {
  const irreplaceable = deep.keys.filter(isIrreplaceable);
  const nowhere = deep.keys.filter(({ places }) => places.length === 0);
  const lost = nowhere.filter(isIrreplaceable);
  const rung = rungOf(deep, irreplaceable, lost);
  const unread = deep.unread?.map((who) => `; the memory of ${who} was not read to its end`) ?? [];
  if (!deep.diskSearched) unread.push("; the disk was not searched");
  const back = salvageCommands(deep);
  const names = nowhere.map(({ name }) => name);
  const leader =
    cp && deep.keys.some((key) => key.name === "ca" && !isFound(key)) ? lastLeaderElsewhere(cp) : undefined;
  const nodes = leader?.nodes.filter((name) => state.others?.includes(name)) ?? [];
  const way = [...(back.length > 0 ? [commandChain(back)] : []), wholeRepairLine(names, oldKeyOf(deep))].join(
    " → ",
  );
  const first = lost.length > 0 ? { note: BACKUPS_FIRST } : {};
  const instead = todosIfKeysAreLost(names, oldKeyOf(deep)).map((todo) => ({ ...first, ...todo }));
  const next =
    nodes.length > 0
      ? whereItMayBe(nodes)
      : [...back, ...instead, { command: command("02-control-plane") }, ...withoutCertificateKey(deep)];
  return {
    rung,
    ...(lost.length > 0 ? { lost: nowhere.map(({ file }) => file), way } : {}),
    verdict: `${whyOf(rung, lost, irreplaceable)}${lost.length > 0 ? unread.join("") : ""}${cluster ? "" : "; etcd's data cannot be read, so few keys can be proved"} (RUNBOOK 0.1, row ${rung})`,
    next: inLines([...hold, ...next]),
    course: courseFrom({ ...state, ...sureOf(deep) }),
  };
}

/** No key is made or put back here before these nodes were searched: the plan there may bring all of it. */
function whereItMayBe(nodes: readonly string[]): Todo[] {
  return [
    {
      on: nodes.join(", "),
      command: command("plan"),
      note: "its controller-manager led last: only that process may hold ca.key",
    },
    {
      command: command("plan", { "lost-on": nodes }),
      note: "here, if ca.key is lost there, too, or that node is lost for good",
    },
  ];
}

function isFound({ places }: Pick<LostKey, "places">): boolean {
  return places.some(({ found }) => found);
}

/** It assumes nothing about places that this node cannot search. */
function sureOf(deep: Deep): Pick<RepairState, "found" | "lost" | "oldKey"> {
  const [found, lost] = [true, false].map((is) => deep.keys.filter((key) => isFound(key) === is));
  return { found: found!.length > 0, lost: lost!.map(({ name }) => name), oldKey: oldKeyOf(deep) };
}

const BACKUPS_FIRST = "look in backups first: a key that is found there saves parts 3 and 4";

/** kubeadm printed the key to this Secret once. Without that key the Secret is of no use. */
function withoutCertificateKey(deep: Deep): Todo[] {
  const inSecret = deep.keys.filter(({ places }) => isSealed(places[0]) && places.every(({ word }) => word));
  if (inSecret.length === 0) return [];
  const names = inSecret.map(({ name }) => name);
  return [{ command: `if nobody has that key: ${inOneLine(todosIfKeysAreLost(names, oldKeyOf(deep)))}` }];
}

/** A key in kubeadm-certs is still encrypted; keys in other Secrets were read. */
function isSealed(place: KeyPlace | undefined): boolean {
  return place?.word === "secret" && !place.found;
}

function oldKeyOf({ oldTokens, oldKeyHere }: Deep): OldSaKey {
  return oldKeyHere ? "here" : oldTokens ? "in tokens" : "lost";
}

const WHY: Record<number, string> = {
  0: "the keys of the cluster's CA and sa.key are here. Only control plane nodes trust the other lost keys",
  2: "a process still holds the lost keys: read them back before anything is restarted",
  3: "the lost keys are in free blocks of the disk: read them back before anything is written to it",
  4: "a key is nowhere to be found: a new one is made, and old service-account tokens stay valid until part 4",
  5: "the lost keys are nowhere to be found: new ones are made, all nodes rejoin, tokens are renewed (parts 3 and 4)",
};

function whyOf(rung: number, lost: readonly LostKey[], keys: readonly LostKey[]): string | undefined {
  if (rung === 1) {
    const places = new Set(
      keys.flatMap(({ places }) => places.flatMap((one) => (one.rung === 1 ? one.where : []))),
    );
    return `the lost keys may still be had (${[...places].join("; ")}): look there before new ones are made`;
  }
  if (rung < 5 || lost.some(({ name }) => name === "ca")) return WHY[rung];
  return "sa.key is nowhere to be found: a new one is made, tokens are renewed and pods restart (part 4)";
}

function rungOf({ oldTokens }: Deep, irreplaceable: LostKey[], lost: LostKey[]): number {
  if (lost.length === 0) return Math.max(0, ...irreplaceable.map(({ places }) => places[0]!.rung));
  const tokensLive = !lost.some(({ name }) => name === "sa") || oldTokens;
  return tokensLive ? 4 : 5;
}

function salvageCommands({ keys, diskOption, moveToRescue }: Deep): Todo[] {
  const words = new Set(keys.map(({ places }) => places[0]?.word));
  const isAsked = keys.some(({ places }) => isSealed(places[0]));
  const todo: Todo[] = [];
  const salvage = (line: string, more: Pick<Todo, "note"> = {}) =>
    todo.push({ command: moveToRescue ? `${line} --move-aside` : line, ...more });
  if (words.has("files")) salvage(command("00-salvage files"));
  if (words.has("memory")) salvage(command("00-salvage memory"));
  if (words.has("secret")) salvage(command("00-salvage secret"), isAsked ? { note: ASKS } : {});
  if (words.has("disk")) salvage(`${command("00-salvage disk")} ${diskOption}`.trim());
  const place = keys.flatMap(({ places: [first] }) => (first && !first.word ? first.where : []))[0];
  if (place === undefined) return todo;
  const pack = `${command("00-assess --deep")}, then ${command("hand-over pack")} where the keys are`;
  todo.push({ on: place.replace("maybe on ", ""), command: pack });
  return [...todo, { command: command("hand-over unpack FILE"), note: LOST_THERE_TOO }];
}

const ASKS = "asks for the certificate key that kubeadm printed";
const LOST_THERE_TOO = "here; if the keys are lost there as well: 01-etcd.ts --new-cas";
