/**
 * The look before the plan: brings the kit to all nodes, asks all of them at the same time what 00-assess says there, and
 * lets the first one make the plan of their answers. Reads only, but for what stops the loss of keys, which is asked first.
 */
import { command } from "../again.ts";
import { Fail } from "../fail.ts";
import { writeTar } from "../hand-over/tar.ts";
import { inParallel } from "../in-parallel.ts";
import { isOnEachMachine } from "../pki/addresses.ts";
import { FEW, listed, plainLine, quoteUntrusted } from "../plain.ts";
import { KIT_PLACE } from "../plan/kit-place.ts";
import { lookLine, SEEN } from "../plan/look-line.ts";
import type { NodeData, NoPlanData, PlanData } from "../plan/plan-answer.ts";
import { isName } from "../plan/plan-node.ts";
import { say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { type Host, inKit, type Output } from "./host.ts";
import { endIfStopping } from "./interrupted.ts";
import { Lanes } from "./lanes.ts";
import { MOST, patience } from "./late.ts";
import type { Session } from "./session.ts";
import { readPlanData } from "./trusted-plan.ts";

/** The longest answer of a node that counts, in bytes: as the plan has it. */
const MOST_ANSWER = 2 ** 20;

/** Its plan, of this node alone. */
export async function firstLook(session: Session): Promise<PlanData | NoPlanData> {
  const { first } = session;
  tell(`looks at ${first.isHere ? "this node" : first.address}`);
  const why = await meetOnce(session, first);
  if (why !== undefined)
    throw new Fail(`"${first.address}": ${why}`, {
      hint: shell`log in by hand: ssh ${`${first.user}@${first.address}`} true`,
      unchanged: true,
    });
  await bringKit(session, first);
  const plan = await planOn(session, first, []);
  if (plan.ended === "ok") await remember(session, plan);
  return plan;
}

/** The plan of what all nodes say; it is made on the node that has the keys, where that is another one. */
export async function lookAround(session: Session, own: PlanData): Promise<PlanData | NoPlanData> {
  const others = own.nodes.filter(({ name }) => name !== own.node && session.hosts.has(name));
  if (others.length === 0) return own;
  tell(`asks ${listed(others.map(({ name }) => name))}: reads only`);
  const answers = await askAll(session, others);
  const plan = await planOn(session, session.first, answers);
  const to = plan.ended === "ok" ? plan.elsewhere?.to : undefined;
  const planner = to === undefined ? undefined : session.hosts.get(to);
  if (plan.ended !== "ok" || !planner || !session.met.has(planner.name)) return plan;
  tell(`${plainLine(plan.elsewhere!.aim)}`);
  const ownAnswer = await answerOf(session, session.first, { role: "control plane node" });
  session.first = planner;
  return await planOn(session, planner, [
    ...answers.filter(({ name }) => name !== planner.name),
    { name: own.node, json: ownAnswer.stdout },
  ]);
}

/**
 * Ways to the nodes: by the address that etcd's data proves, or by the operator's own; and by a name that ssh compares
 * host keys with.
 */
async function remember(session: Session, plan: PlanData) {
  const { first, hosts, user } = session;
  hosts.delete(first.name);
  first.name = plan.node;
  hosts.set(plan.node, first);
  session.met.add(plan.node);
  for (const { name, address, why } of plan.nodes) {
    if (hosts.has(name)) continue;
    const reached = why === undefined ? address : await operatorsAddress(session, name, why);
    if (reached === undefined || !isName(name))
      say(`leaves out ${name}: ${plainLine(why ?? "it has no name")}`);
    else hosts.set(name, { name, address: reached, user, alias: name, kit: KIT_PLACE });
  }
}

/** Returns undefined if the operator gives no address: the node is then left out. Errors: Fail if the answer is no address. */
async function operatorsAddress(session: Session, name: string, why: string): Promise<string | undefined> {
  const typed =
    session.addresses.get(name) ??
    (await session.person.path(`${plainLine(why)}. The address of ${name}, or nothing to leave it out`));
  if (typed === undefined || isOnEachMachine(typed)) return typed;
  throw new Fail(`"${plainLine(typed)}" is no IP address`, {
    hint: `give it with the line: --address ${name}=IP`,
  });
}

/**
 * Returns undefined if the node answers now, or has answered before; otherwise the reason why it does not answer. Errors:
 * Interrupted: Ctrl-C, also at a question of ssh, which has ended then.
 */
export async function meetOnce(session: Session, host: Host): Promise<string | undefined> {
  if (session.met.has(host.name)) return undefined;
  endIfStopping(session);
  const why = await session.transport.meet(host);
  endIfStopping(session);
  if (why === undefined) {
    session.met.add(host.name);
    session.silent.delete(host.name);
  } else session.silent.set(host.name, quoteUntrusted(why));
  return why;
}

/** Twenty at the same time; ssh asks about one after the other. Name → why it is not there, of those that are not. */
export async function meetAll(session: Session, hosts: readonly Host[]): Promise<Map<string, string>> {
  const silent = new Map<string, string>();
  await inParallel(hosts, FEW, async (host) => {
    const why = await meetOnce(session, host);
    if (why !== undefined) silent.set(host.name, why);
  });
  return silent;
}

/** Over an older one, too. What is there already, file by file, stays. Errors: Fail where it cannot be unpacked. */
export async function bringKit(session: Session, host: Host) {
  if (host.isHere) return;
  const { transport } = session;
  const kit = await session.kit();
  const how = patience(session, MOST.kit);
  const { stdout } = await transport.run(host, `cat ${host.kit}/SHA256SUMS 2> /dev/null | sha256sum`, how);
  if (stdout.startsWith(kit.sum)) return;
  const {
    exitCode,
    stderr,
    stdout: bad,
  } = await transport.run(host, kit.unpack, { input: Bun.file(kit.path), ...how });
  if (exitCode === 0) return;
  throw new Fail(
    `The kit cannot be unpacked on ${host.name}: ${quoteUntrusted(`${bad}${stderr}`.trim()) || `exit code ${exitCode}`}`,
    { hint: `look at ${host.kit} there, then run the same line again` },
  );
}

/** Seconds for which a look at a node may say nothing. */
const LOOK = 300;

interface NodesAnswer {
  name: string;
  /** "" if the node does not answer. */
  json: string;
}

async function askAll(session: Session, others: readonly NodeData[]): Promise<NodesAnswer[]> {
  const hosts = others.map(({ name }) => session.hosts.get(name)!);
  const silent = await meetAll(session, hosts);
  const answers = new Map<string, string>();
  using lanes = new Lanes(hosts.map(({ name }) => name));
  await inParallel(hosts, FEW, async (host) => {
    const { name } = host;
    const why = silent.get(name);
    if (why !== undefined) {
      lanes.ended(name, false, why);
      return void answers.set(name, "");
    }
    try {
      await bringKit(session, host);
      const { role } = others.find((one) => one.name === name)!;
      const output = await answerOf(session, host, { role, onLine: (line) => lanes.show(name, line) });
      answers.set(name, output.stdout.length <= MOST_ANSWER ? output.stdout : "");
      const hasAnswered = [0, 2].includes(output.exitCode);
      lanes.ended(name, hasAnswered, hasAnswered ? "has answered" : undefined);
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      answers.set(name, "");
      lanes.ended(name, false, plainLine(err.message));
    }
  });
  return hosts.map(({ name }) => ({ name, json: answers.get(name) ?? "" }));
}

async function answerOf(
  session: Session,
  host: Host,
  { role, onLine }: { role: NodeData["role"]; onLine?: (line: string) => void },
): Promise<Output> {
  const line = lookLine(session.words["etcd-data"], role);
  const began = Date.now();
  const output = await session.transport.run(host, inKit(host, line), {
    ...{ onLine, quiet: LOOK, ...patience(session, MOST.look) },
  });
  logIt(session, { node: host.name, command: line, began }, output);
  return output;
}

async function planOn(session: Session, host: Host, answers: readonly NodesAnswer[]) {
  if (answers.length > 0) await bringAnswers(session, host, answers);
  const words = { ...session.words, user: session.user === "root" ? undefined : session.user };
  const line = command("plan --json", {
    ...(session.deep && { deep: true }),
    ...(answers.length > 0 && { seen: SEEN }),
    ...words,
  });
  const began = Date.now();
  const how = patience(session, session.deep ? MOST.disk : MOST.plan);
  const output = await session.transport.run(host, inKit(host, line), how);
  logIt(session, { node: host.name, command: line, began }, output);
  if (output.stdout.trim() === "")
    throw new Fail(`${host.name} made no plan: ${quoteUntrusted(lastLine(output.stderr))}`, {
      hint: `type it there: cd ${host.kit} && ${line}`,
    });
  return readPlanData(output.stdout, session.runbookLines);
}

function lastLine(text: string): string {
  return (/^error: (.+)$/m.exec(text)?.[1] ?? text.trim().split("\n").at(-1)) || "no word";
}

async function bringAnswers(session: Session, host: Host, answers: readonly NodesAnswer[]) {
  const files = answers.map(({ name, json }) => ({
    ...{ name: `${SEEN}/${name}.json`, mode: 0o600, bytes: Buffer.from(json) },
  }));
  const unpack = inKit(host, `rm -rf ${SEEN} && mkdir -m 700 ${SEEN} && tar --no-same-permissions -xof -`);
  const { exitCode, stderr } = await session.transport.run(host, unpack, {
    ...{ input: writeTar(files, new Date()), ...patience(session, MOST.file) },
  });
  if (exitCode !== 0)
    throw new Fail(`The answers cannot be brought to ${host.name}: ${quoteUntrusted(stderr.trim())}`, {
      hint: `look at ${host.kit} there, then run the same line again`,
    });
}

function logIt(
  session: Session,
  { began, ...line }: { node: string; command: string; began: number },
  output: Output,
) {
  session.log.add({ ...line, seconds: (Date.now() - began) / 1000, exitCode: output.exitCode }, output);
}
