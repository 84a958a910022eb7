/** Acts as lines that a person types: in a root shell of the named node, or on the operator's machine. */
import { basename } from "node:path";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { urlHost } from "../pki/addresses.ts";
import { listed, plainLine } from "../plain.ts";
import { type Act, actsOn } from "../plan/act.ts";
import { ROOT } from "../plan/paste.ts";
import type { StepData } from "../plan/plan-data.ts";
import { answerLines } from "../run.ts";
import { programWord, shell } from "../shell-line.ts";
import { carriedTo, type Host, inKit } from "./host.ts";
import { doneMark, type Session } from "./session.ts";

const HERE = "your machine";

/** "cp1, cp2# ./bunw scripts/01-etcd.ts"; none: nothing is left of the act on these nodes. */
export function linesByHand(session: Session, act: Act, on: readonly string[] = actsOn(act)): string[] {
  if (on.length === 0) return [];
  const host = (name: string) => session.hosts.get(name);
  const each = (line: (to: Host) => string) =>
    on.slice(0, MOST).flatMap((name) => {
      const to = host(name);
      return to ? [`${HERE}# ${line(to)}`] : [`${HERE}# ${name}: nothing proves its address`];
    });
  switch (act.do) {
    case "type":
      return [`${listed(on)}# ${plainLine(act.command)}`];
    case "type-printed": {
      const line = session.printed.get(act.keptBy) ?? `the line that step ${act.keptBy} has printed`;
      const aside = act.moveAside.filter((name) => on.includes(name));
      return [
        `${listed(on)}# ${plainLine(line)}${aside.length > 0 ? `   # on ${listed(aside)} with --move-aside` : ""}`,
      ];
    }
    case "kit":
      return [`${HERE}# bring the kit to ${listed(on)}: RUNBOOK.md, part 0, has the line`];
    case "carry": {
      const from = host(act.from);
      if (!from) return [];
      return each((to) => {
        const { pack, unpack } = carriedTo(act, from, to);
        return `${sshTo(from, pack)} | ${sshTo(to, unpack)}`;
      });
    }
    case "fetch":
      return [`${HERE}# ${fetchLine(host(act.from), act.file)}`];
    case "gather": {
      const to = host(act.to);
      if (!to) return [];
      return each((from) => {
        const put = inKit(to, shell`mkdir -p -m 700 ${act.into} && cat > ${`${act.into}/${from.name}.tar`}`);
        return `${sshTo(from, PACK_RUNS)} | ${sshTo(to, put)}`;
      });
    }
  }
}

/** Lines for so many nodes; a fleet is no work for hands. */
const MOST = 10;

/** As ssh is typed: a name decides which machine it is, wherever the address leads. */
function sshTo({ user, address, alias, isHere }: Host, command: string): string {
  if (isHere) return command;
  const asRoot = programWord(user === ROOT ? command : `sudo -n sh -c ${programWord(command)}`);
  const login = `${user}@${address}`;
  return alias
    ? `${shell`ssh -o ${`HostKeyAlias=${alias}`} ${login}`} ${asRoot}`
    : `${shell`ssh ${login}`} ${asRoot}`;
}

function fetchLine(from: Host | undefined, file: string): string {
  if (!from) return file;
  const path = file.startsWith("/") ? file : `${from.kit}/${file}`;
  if (from.isHere) return shell`cp -p ${path} .`;
  if (from.user !== ROOT) return `${sshTo(from, shell`cat ${path}`)} > ${basename(path)}`;
  return shell`scp -p ${`${from.user}@${urlHost(from.address)}:${path}`} .`;
}

/** Prints what is left, without what is done. Returns the end that it got. */
export function sayLeft<E>(session: Session, steps: readonly StepData[], end: E): E {
  const lines = steps.flatMap((step) => leftOf(session, step));
  const kit = session.first.kit;
  answerLines([
    "",
    `Left to do. The same command continues: ${session.again}`,
    `By hand, as root, in ${kit} of the named node:`,
    ...lines,
  ]);
  return end;
}

function leftOf(session: Session, step: StepData): string[] {
  const lines = step.acts.flatMap((act) => {
    const names = actsOn(act).filter((name) => !session.done.has(doneMark(step, name, lineOf(session, act))));
    return linesByHand(session, act, names);
  });
  const makesVoid =
    step.makesVoid.length > 0 ? ` (repeated, it needs ${step.makesVoid.join(" and ")} again)` : "";
  return lines.length === 0
    ? []
    : [`  ${step.number} ${plainLine(step.does)}${makesVoid}`, ...lines.map((line) => `      ${line}`)];
}

function lineOf({ printed }: Session, act: Act): string {
  return act.do === "type" ? act.command : act.do === "type-printed" ? (printed.get(act.keptBy) ?? "") : "";
}
