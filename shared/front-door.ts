/**
 * The answer of `./bunw` to a first word that is no script: the list of the scripts, and the one that was probably
 * meant. A script never runs by a word that is nearly its name.
 */
import { basename } from "node:path";
import { UsageError } from "./fail.ts";
import { nearest } from "./nearest.ts";
import { answerLines, run, VERSION } from "./run.ts";
import { shell } from "./shell-line.ts";

interface Entry {
  script: string;
  does: string;
}

/** The scripts that an operator needs first stand first; test/shared/front-door.test.ts compares them with scripts/. */
const GROUPS: readonly { title: string; scripts: readonly Entry[] }[] = [
  {
    title: "Begin here. These look at the cluster, and change nothing until you say so:",
    scripts: [
      { script: "repair", does: "repairs the whole cluster: shows what it will do, and asks first" },
      { script: "plan", does: "prints all commands for this cluster and this damage" },
      { script: "00-assess", does: "prints the damage of this node; reads only" },
      { script: "05-verify", does: "proves each certificate, node and token; reads only" },
      { script: "drill", does: "repairs this healthy node in memory, and says what a disaster would cost" },
    ],
  },
  {
    title: "The parts of RUNBOOK.md, in order:",
    scripts: [
      { script: "00-salvage", does: "searches memory, Secrets and the disk for lost keys" },
      { script: "00-token-key", does: "computes the public key of old tokens from the tokens" },
      { script: "01-etcd", does: "lets etcd serve its old data with new certificates" },
      { script: "02-control-plane", does: "brings the API server of this node back" },
      { script: "03-workers", does: "open, close: lets the kubelets of all nodes back in" },
      { script: "03-join", does: "gives the kubelet of this worker a new certificate" },
      { script: "04-sa-tokens", does: "renews tokens and pods that trust the old keys" },
    ],
  },
  {
    title: "Other accidents, and the days before and after one:",
    scripts: [
      { script: "renew-ca", does: "renews CAs that expire, with the same keys" },
      { script: "move", does: "repairs machines that have other addresses than before" },
      { script: "restore", does: "builds a control plane node from a snapshot or a disk of etcd" },
      { script: "join-again", does: "lets a control plane node without etcd's data join again" },
      { script: "hand-over", does: "packs the shared keys into one encrypted file, and unpacks it" },
      { script: "words", does: "prints or forgets the options that scripts have saved on this node" },
      { script: "report", does: "writes one page about a repair, and a bundle for questions" },
    ],
  },
];

/** All scripts, as the list names them. */
export const LISTED: readonly string[] = GROUPS.flatMap(({ scripts }) => scripts.map(({ script }) => script));

const HELP = ["help", "-h", "--help"];
const LIST = "list all scripts: ./bunw --help";

/** Errors: UsageError with the script that was meant. */
export function openDoor(words: readonly string[]) {
  const [word] = words;
  if (word === undefined || HELP.includes(word)) return answerLines(listLines());
  if (word === "--version") return answerLines([`kube-pki-repair ${VERSION}`]);
  const script = nearest(nameIn(word), [...LISTED.map(withoutNumber), ...LISTED]);
  const meant = LISTED.find((one) => script && one.endsWith(script));
  const path = meant && shell`./bunw scripts/${meant}.ts`;
  throw new UsageError(`"${word}" is no script`, { hint: path ? `type ${path}, or ${LIST}` : LIST });
}

/** "assess" for "00-assess". */
function withoutNumber(script: string): string {
  return script.replace(/^\d+-/, "");
}

/** "plan" for "scripts/plan.ts". */
function nameIn(word: string): string {
  return basename(word, ".ts").toLowerCase();
}

function listLines(): string[] {
  const widest = Math.max(...LISTED.map((script) => script.length));
  return [
    `kube-pki-repair ${VERSION}: repairs a kubeadm cluster whose certificates expired or were deleted.`,
    "",
    "Usage: ./bunw scripts/NAME.ts [options]     ./bunw scripts/NAME.ts --help",
    "In bash, TAB completes the names of scripts and options after this line: . scripts/completion.bash",
    ...GROUPS.flatMap(({ title, scripts }) => [
      "",
      title,
      ...scripts.map(({ script, does }) => `    ${script.padEnd(widest)}  ${does}`),
    ]),
  ];
}

if (import.meta.main) await run(async () => openDoor(process.argv.slice(2)));
