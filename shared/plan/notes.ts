/** Beside a plan's steps: what has to come first, and what would make another plan. */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { startWithoutFlag } from "../facts/lost-files.ts";
import { exists } from "../files/files.ts";
import { kindOf, meanings, type SavedOption } from "../node/words.ts";
import { COLLECT } from "../old-sa-key/old-tokens.ts";
import { typed } from "../options.ts";
import { listed } from "../plain.ts";
import { irreversibleText } from "../run.ts";
import { isIrreplaceable } from "../salvage/wanted-keys.ts";
import { shell } from "../shell-line.ts";
import { type Elsewhere, openOthers, othersOf } from "./aim.ts";
import { type Line, linesOfAct, printedInto, reachedAs, reachIn, YOUR_MACHINE } from "./by-hand.ts";
import type { List, Way } from "./decision-ways.ts";
import { LISTS } from "./decision-ways.ts";
import { ROOT } from "./login.ts";
import { linesHere, linesOn, type Note, planAgain, planWith } from "./note.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-node.ts";
import type { Placed, PlanStep } from "./step-order.ts";
import { asideName } from "./whole-file.ts";

type Asked = Pick<
  PlanFacts,
  "lost" | "user" | "options" | "unkept" | "answers" | "folder" | "noDisk" | "bundles" | "onAgain"
> & { nodes: readonly PlanNode[] };

interface First extends Asked {
  ask: Line[];
  hold: string | undefined;
  away: Elsewhere | undefined;
}

const AGAIN = "Then print the plan again";
const ASK =
  "One command looks at all nodes, and makes the plan of what they say. By hand, when each node has the kit (part 0), these lines do it. They read only.";

export function firstNotes(assessed: Assessment, asked: First): Note[] {
  const { course, next, damage, damaged, node } = assessed;
  const { ask, hold, away } = asked;
  const notes: Note[] = [];
  const unsafe = damage.find(({ state }) => state === "unsafe");
  const [way = ""] = unsafe ? next : [];
  if (unsafe && isCommand(way))
    notes.push(
      ...inNotes(
        `Do not start or restart the kubelet before this: ${unsafe.detail}. ${AGAIN}`,
        [way],
        asked,
        node,
      ),
    );
  // no line that mends it: who starts it is told, and the parts bring the file or refuse
  else if (unsafe)
    notes.push({ text: `${unsafe.detail}. ${way[0]?.toUpperCase()}${way.slice(1)}`, commands: [] });
  if (!course && damaged)
    notes.push(...inNotes(`This comes first. ${AGAIN}`, next, asked, node), ...sealedNotes(assessed));
  const folder = damage.find(({ id }) => id === "usual-folder");
  if (folder)
    notes.push({ text: `${folder.detail[0]?.toUpperCase()}${folder.detail.slice(1)}.`, commands: [] });
  notes.push(...saidElsewhere(asked), ...withoutData(asked), ...silentWorkers(asked));
  if (ask.length > 0)
    notes.push({
      text: hold === undefined ? ASK : `Step ${hold} first: it stops the loss. ${ASK}`,
      commands: ask,
      isForHands: true,
    });
  // no plan for new keys is printed without the operator's word
  if (away && away.open.length > 0) {
    const unasked = `Only if ${listed(away.open)} cannot be asked: you have looked there, and the keys are lost there, too, or the machine is lost for good`;
    notes.push({
      text: `${unasked}? Then print the plan here with your word.`,
      question: `${unasked}?`,
      commands: linesHere(asked, planWith(asked, "lost-on", away.open)),
      decides: "lost-keys-elsewhere",
      ways: [
        {
          does: `I have looked on ${listed(away.open)}: the keys are lost there, too, or the machine is lost for good`,
          says: { "lost-on": away.open },
        },
      ],
    });
  }
  return [...notes, ...(away?.notes ?? [])];
}

/** Etcd's data is encrypted: no plan can be made before the file that opens it is there. */
function sealedNotes({ node, sealedBy = [] }: Assessment): Note[] {
  return sealedBy.map(({ path, isThere }) => {
    const question = isThere
      ? `${path} on ${node} does not open etcd's data.`
      : `${path} is lost on ${node}, and nothing else there opens etcd's data.`;
    const does = `I have ${isThere ? "the right one" : path}: type its path on this machine, or that of a folder with your copies`;
    const way: Way = isThere
      ? {
          does,
          costs: `the one that is there becomes ${asideName(path)}`,
          upload: { path, to: [node], aside: true },
        }
      : { does, upload: { path, to: [node] } };
    return { text: question, question, commands: [], decides: "lost-files", ways: [way] };
  });
}

/** Words of other control plane nodes. An answer proves none: the operator says it again. */
function saidElsewhere(asked: Asked): Note[] {
  const isNew = ({ option, value }: SavedOption) =>
    LISTS.some((list) => list === option) &&
    !asked.onAgain.includes(value) &&
    !asked.options[option as List].includes(value) &&
    (kindOf({ option }).ofNodes
      ? asked.nodes.some(({ name }) => name === value)
      : startWithoutFlag(`--${value}`) !== undefined);
  return asked.answers.nodes.flatMap(({ name, words }): Note[] => {
    const own = words.filter(isNew);
    if (own.length === 0) return [];
    const of = (list: List) => [
      ...(asked.unkept[list] ?? []),
      ...own.flatMap(({ option, value }) => (option === list ? value : [])),
    ];
    const more = Object.fromEntries(LISTS.map((list) => [list, of(list)]));
    const question = `On ${name} it was said that ${listed(meanings(own))}. Does it hold?`;
    const text = `${question} Then print the plan here with that word.`;
    const ways = [{ does: `Yes, it holds: ${listed(meanings(own))}`, says: more }];
    const commands = linesHere(asked, planAgain(asked, more));
    return [{ text, question, commands, decides: "said-elsewhere", ways }];
  });
}

/** Nothing is repaired where etcd's data is lost: the operator says whether it is. */
function withoutData(asked: First): Note[] {
  const { answers, lost, away } = asked;
  // its keys are brought from there first
  const settled = [...lost.names, ...lost.away, ...(away && !away.to ? away.open : [])];
  const names = answers.nodes.flatMap(({ name, lostData }) =>
    lostData && !settled.includes(name) ? [name] : [],
  );
  if (names.length === 0) return [];
  const question = `${listed(names)}: no data of etcd is found there, so parts 1 and 2 cannot repair it. A disk that is not mounted? Mount it, and ask again.`;
  return [
    {
      text: `${question} Lost for good? Then print the plan so: it continues without, and says at its end how the machine comes back.`,
      question: `${question} Or is it lost for good?`,
      commands: linesHere(asked, planWith(asked, "lost", names)),
      decides: "no-data",
      ways: [
        {
          does: `Etcd's data on ${listed(names)} is lost for good: continue without it, and join the machine again at the end`,
          irreversible: irreversibleText("memberOut", { NODE: listed(names) }),
          says: { lost: names },
        },
      ],
    },
  ];
}

/** Part 3 waits for each worker. Control plane nodes are a decision, as part 2 stops for them. */
function silentWorkers(asked: Asked): Note[] {
  const isWorker = (name: string) => asked.nodes.some((node) => node.name === name && node.role === "worker");
  const names = asked.answers.silent.filter(isWorker);
  if (names.length === 0) return [];
  const question = `${listed(names)}: asked, and no answer. Off for now? Part 3 waits 15 minutes at most for each worker that is not named as away.`;
  const text = `${listed(names)}: asked, and no answer. Off for now? Print the plan so: part 3 then does not wait for it, 15 minutes at most.`;
  const commands = linesHere(asked, planWith(asked, "without", names));
  const does = `${listed(names)} is away for now: nobody waits for it, and it stays in the cluster`;
  const ways = [{ does, says: { without: names } }];
  return [{ text, question, commands, decides: "silent-workers", ways }];
}

const PASSPHRASE = "passphrase";

/** Where its passphrase does not lie beside it, the script asks. */
export function bundleNotes(asked: Asked): Note[] {
  const [bundle] = asked.bundles;
  if (bundle === undefined) return [];
  const opened = { "passphrase-file": exists(typed(PASSPHRASE)) ? PASSPHRASE : undefined };
  const unpack = `${command("hand-over unpack", opened)} ${shell`${bundle}`}`;
  const text = `A bundle of keys lies here: ${bundle}. With the old keys no worker has to join, and no running pod restarts: this comes first. ${AGAIN}.`;
  return [{ text, commands: linesHere(asked, unpack, planAgain(asked)) }];
}

/** 00-assess prints a command or a sentence as next. Typed on this node, whose address may be another one by now. */
function isCommand(line: string): boolean {
  return /^(\.\/bunw|systemctl|ssh|scp|kubectl|kubeadm|openssl) /.test(line);
}

/** "LINE   # on another machine": its line can be copied. */
function asNote(text: string): Note {
  const [line = "", where] = text.split(/ {3}# (?=on )/);
  return where
    ? { text: `${where[0]!.toUpperCase()}${where.slice(1)}:`, commands: [{ text: line }] }
    : { text, commands: [] };
}

/** `node`: this one, where the lines are typed. */
function inNotes(text: string, next: readonly string[], { unkept }: Asked, node: string): Note[] {
  const sentences = next.filter((line) => !isCommand(line)).map(asNote);
  const lines = next.filter(isCommand);
  const ways = lines.map((line): Way => {
    const [typed = ""] = line.split(/(?<! ) +# /);
    return {
      does: `Type it on ${node}: ${line}`,
      acts: [{ do: "type", on: [node], command: typed, sideBySide: false }],
    };
  });
  const commands = [...lines, command("plan", unkept)].map((text) => ({ text }));
  const decided = ways.length > 0 ? { decides: "first" as const, ways } : {};
  return [{ text: `${text}.`, commands, ...decided }, ...sentences];
}

/** After part 0: files without which part 1 stops, and places of lost keys that this node cannot read. */
export function notesBeforePart1({ course, filesBack = [], damage, deep }: Assessment, asked: Asked): Note[] {
  const ways = filesBack.filter((way) => !asked.noDisk || !way.includes("00-salvage.ts disk"));
  const names = listed(damage.flatMap(({ id, what }) => (id === "lost-file" ? what : [])));
  const text = `Lost, and only a copy brings it back: ${names}. Parts 1 and 2 continue without it. If you have a copy, bring it back before part 1:`;
  return [
    ...(filesBack.length > 0 ? [{ text, commands: [] }] : []),
    ...ways.flatMap((way) => wayBack(way, asked)),
    ...(course && deep ? hopeNotes(deep, asked) : []),
  ];
}

/** Where keys may still be that nothing on this node brings back. */
function hopeNotes(deep: NonNullable<Assessment["deep"]>, asked: Asked): Note[] {
  const notes: Note[] = [];
  const add = (text: string, ...commands: Line[]) => void notes.push({ text, commands });
  const lost = deep.keys.filter((key) => isIrreplaceable(key) && !key.places.some(({ found }) => found));
  if (lost.length === 0) return [];
  const files = lost.map(({ file }) => file).join(" and ");
  const others = openOthers(asked.nodes, asked);
  add(
    `Look for ${files} in backups before part 1: with the old keys no worker has to join, and no running pod restarts. If you have none, and no way below is yours, continue with part 1.`,
  );
  if (others.length > 0)
    add(
      `If another control plane node (${listed(others)}) still has ${files}, or finds them in memory: print the plan there, and follow that one.`,
      ...asked.nodes
        .filter(({ name }) => others.includes(name))
        .flatMap((node) => linesOn(node, command("plan", asked.options))),
    );
  if (lost.some(({ places }) => places.some(({ word }) => word === "secret")))
    add(
      `The Secret kubeadm-certs is in etcd's data. This opens it, with the certificate key that kubeadm printed. ${AGAIN}.`,
      ...linesHere(asked, command("00-salvage secret"), command("plan", asked.unkept)),
    );
  if (!deep.diskSearched) notes.push(diskNote(asked));
  return [...notes, ...tokensOfWorker(deep, asked)];
}

/** After a reboot the only control plane node has no token: its pods' volumes were in memory. */
function tokensOfWorker(
  { keys, oldTokens, oldKeyHere }: NonNullable<Assessment["deep"]>,
  asked: Asked,
): Note[] {
  const { nodes, user } = asked;
  const worker = nodes.find(({ role, why }) => role === "worker" && !why);
  const isLost = keys.some(({ name, places }) => name === "sa" && !places.some(({ found }) => found));
  if (!isLost || oldTokens || oldKeyHere || !worker || othersOf(nodes).length > 0) return [];
  return [
    {
      text: `Optional, one to two minutes: no token that the lost sa.key has signed is on this node, and ${worker.name} may have some. If you trust it, their key is computed, and old tokens stay valid until part 4. The last line is refused once, as nothing here proves these tokens: its hint has the same line with --kid. Type that one.`,
      commands: [
        {
          at: YOUR_MACHINE,
          text: printedInto("tokens", reachedAs(worker, user), reachedAs(nodes[0]!, user), COLLECT),
        },
        ...linesHere(asked, command("00-token-key --token-file tokens")),
      ],
    },
  ];
}

function diskNote(asked: Asked): Note {
  const { noDisk, unkept } = asked;
  if (noDisk === undefined) {
    const text = "The disk was not searched. This does it, which may take long, and prints the plan again.";
    return { text, commands: linesHere(asked, command("plan --deep", unkept)) };
  }
  const text = `The disk was not searched: ${noDisk}. With an image of it, or another device (--device), this does it, and prints the plan again.`;
  return { text, commands: linesHere(asked, command("plan --deep --image FILE", unkept)) };
}

/** A way of 00-assess; from another node only if nobody has said that it is lost there, too. */
function wayBack(way: string, { user, nodes, answers }: Asked): Note[] {
  const [line = "", comment = ""] = way.split(/(?<! ) +# /);
  const [, name, names = ""] =
    /^ssh root@(\S+) tar -C \/ -cf - (.+) \| tar -C \/ -xpkf - \2$/.exec(line) ?? [];
  const to = nodes[0]!;
  if (!nodes.some((node) => node.name === name))
    return [{ text: comment || `On ${to.name}:`, commands: linesOn(to, line) }];
  const all = names.split(" ");
  const isOne = (path: string) => all.includes(path.slice(1));
  const lackers = answers.nodes.flatMap((node) => (node.missing.some(isOne) ? node.name : []));
  const others = othersOf(nodes).filter((other) => !lackers.includes(other));
  const from = nodes.find((node) => node.name === others[0]);
  if (!from) return [];
  const hands = { reach: reachIn(nodes, user) };
  const commands = all.flatMap((name) => {
    const files = [`/${name}`];
    return linesOfAct(
      { do: "carry", from: from.name, to: [to.name], files, secret: false, keep: true },
      hands,
    );
  });
  return [{ text: `These files are usually the same on ${listed(others)}. Copy them from there`, commands }];
}

const PRINTED_LINES =
  "sed -n '/^After part 3/,/^done/p' /root/kube-pki-repair-*/runs/*-02-control-plane-*.txt";
const NODE_TO_NODE =
  "The line with tar is for root's ssh from node to node. Without that ssh, hand-over.ts pack and unpack carry the keys, as in part 1, and you carry admin.conf in the same way.";

/**
 * Before what is kept of the repair is removed: how a machine takes the place of what is lost. Part 2 knows
 * the lines: what it prints stays on its node.
 */
export function notesBeforeEnd(
  steps: readonly (PlanStep & Placed)[],
  { lost: { names, controlPlanes }, user, nodes }: Pick<Asked, "lost" | "user" | "nodes">,
): Note[] {
  const notes: Note[] = [
    {
      text: '05-verify\'s last line says until when the certificates are good. RUNBOOK-MORE.md, "Watch it", has the lines of a timer that warns before that.',
      commands: [],
    },
  ];
  const part2 = steps.find(({ part }) => part === 2);
  if (part2 && controlPlanes.length > 0)
    notes.push({
      text: `When all checks are good, a new machine, or the same one, empty, takes the place of ${listed(controlPlanes)}. Step ${part2.number} has printed the lines for it. They copy the shared keys, and join the machine with kubeadm. 05-verify then says what of the old machine is missing. ${user === ROOT ? "" : `${NODE_TO_NODE} `}${part2.on[0]} keeps what was printed:`,
      commands: linesHere({ nodes }, PRINTED_LINES),
    });
  const workers = names.filter((name) => !controlPlanes.includes(name));
  if (workers.length > 0)
    notes.push({
      text: `A machine that takes the place of ${listed(workers)} joins as any new worker: kubeadm join. The same one after kubeadm reset.`,
      commands: [],
    });
  return notes;
}
