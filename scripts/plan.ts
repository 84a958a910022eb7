#!/usr/bin/env bun
/**
 * RUNBOOK.md for this cluster and this damage: only the lines that apply, in order, with the names
 * and addresses of its nodes, to be typed there. Reads only; run it on a control plane node.
 */
import { join, resolve } from "node:path";
import { command } from "../shared/again.ts";
import { assess } from "../shared/assess/assess.ts";
import type { Assessment } from "../shared/assess/assessment.ts";
import { lookHere, type NodeLook } from "../shared/assess/look-here.ts";
import { deepAsked } from "../shared/assess/survivors.ts";
import { hintOf } from "../shared/checks/way.ts";
import { saveOptions } from "../shared/facts/typed-options.ts";
import { attempt, Fail, Refused, UsageError } from "../shared/fail.ts";
import { parseOptions, writeTyped } from "../shared/files/operator-files.ts";
import { readKubeconfig } from "../shared/pki/kubeconfigs.ts";
import { needsProof } from "../shared/plan/aim.ts";
import { linesOfAct, reachIn } from "../shared/plan/by-hand.ts";
import { requireUserName } from "../shared/plan/login.ts";
import { makePlan, type Plan } from "../shared/plan/make-plan.ts";
import { planAsMarkdown } from "../shared/plan/markdown.ts";
import { planAsData } from "../shared/plan/plan-data.ts";
import { factsForPlan, type PlanFacts } from "../shared/plan/plan-facts.ts";
import { planAsPage } from "../shared/plan/plan-page.ts";
import { answerJson, answerText, run, say, step } from "../shared/run.ts";
import { shellWord } from "../shared/shell-line.ts";
import { verifyHere } from "../shared/verify/verify-here.ts";

async function main() {
  const { file, deep, json, ...values } = parse();
  const form = formOf(file);
  if (values.user !== undefined) requireUserName(values.user);
  const { assessment, facts, looked } = await step("0.1 Look at this node", async () => {
    const looked = await lookHere(values["etcd-data"], values.endpoint);
    const facts = await factsForPlan(looked.partialFacts ?? {}, values);
    if (looked.partialFacts?.cp) saveOptions(looked.partialFacts.cp, lostThere(facts));
    const assessment = await assess(looked, { deep, lost: facts.lost });
    const isOpen = facts.folder === undefined && needsProof(assessment, facts);
    const isProved = isOpen && (await isProvedHere(looked, facts));
    return { facts: { ...facts, isProved }, looked, assessment };
  });
  refuseWorker(assessment, looked);
  const plan = makePlan(assessment, facts, await runbookHere());
  if (json) answerJson(planAsData(plan, facts, assessment.damaged), 0);
  else if (file === undefined) answerText(form(plan));
  else write(file, form(plan), plan);
  if (plan.elsewhere) process.exitCode = 3;
  else if (assessment.damaged) process.exitCode = 2;
}

/** Part 5's own checks, made now: the servers, etcd's members, and each kubelet by the API. */
async function isProvedHere({ node }: NodeLook, { options, lost }: PlanFacts) {
  const how = { etcdData: options["etcd-data"], without: lost.away, mustEnd: true };
  return hintOf((await verifyHere(node, how)).checks) === undefined;
}

function write(file: string, text: string, { user, node, nodes, leftOut }: Plan) {
  for (const line of leftOut) say(line);
  writeTyped(file, `${text}\n`, { mode: 0o600 });
  const [here, path] = [nodes.find(({ name }) => name === node), resolve(file)];
  // a name that needs quotes here needs others there
  if (here && shellWord(path) === path)
    for (const { text } of linesOfAct(
      { do: "fetch", from: node, file: path },
      { reach: reachIn(nodes, user) },
    ))
      say(`to your machine: ${text}`);
}

/** Keyed by the ending of the file's name. */
const FORMS: Record<string, (plan: Plan) => string> = { md: planAsMarkdown, html: planAsPage };

function formOf(file: string | undefined): (plan: Plan) => string {
  const form = FORMS[/\.(\w+)$/.exec(file ?? ".md")?.[1] ?? ""];
  if (form) return form;
  const endings = Object.keys(FORMS).map((ending) => `.${ending}`);
  throw new UsageError(`Cannot write the plan to "${file}"`, {
    hint: `give a name that ends in ${endings.join(" or ")}`,
  });
}

function refuseWorker({ role, node: name, verdict }: Assessment, { node }: NodeLook) {
  if (role === "control plane") return;
  const server = attempt(() => readKubeconfig(node.kubelet.kubeconfig)?.server, undefined);
  const kubeletNote = server ? `: this kubelet asks ${server}, ${whoAnswersAt(server)}` : "";
  throw new Refused(`"${name}" is no control plane node: ${verdict}`, {
    hint: `make it on a control plane node${kubeletNote}. There: ${command("plan")}`,
  });
}

const NAMES_THEM = "grep -rhE ':6443' /etc/nginx /etc/haproxy /etc/kubekey";

/** kubespray and KubeKey give each worker a balancer of its own. */
function whoAnswersAt(server: string): string {
  const isOwn = /^https:\/\/(localhost|127\.0\.0\.1|\[::1\])(:|\/|$)/.test(server);
  return isOwn
    ? `its own balancer, whose configuration names them: ${NAMES_THEM}`
    : "one of them or their balancer";
}

/** Files that this node's API server names, and another node has lost. */
function lostThere({ named, answers }: PlanFacts) {
  return named.filter(
    ({ program, path }) =>
      program === "kube-apiserver" && answers.nodes.some((node) => node.lostFiles.includes(path)),
  );
}

/** The RUNBOOK.md that came with this kit. */
async function runbookHere(): Promise<string> {
  const file = Bun.file(join(import.meta.dir, "../RUNBOOK.md"));
  if (await file.exists()) return await file.text();
  throw new Fail("RUNBOOK.md is not in the kit's folder: a plan is made of it", {
    hint: "unpack the kit again: npm run pack packs it",
  });
}

const USAGE = `Usage:
    ./bunw scripts/plan.ts [FILE.md | FILE.html] [--lost NODE,…] [--without NODE,…]
                           [--lost-on NODE,…] [--start-without FLAG,…] [--seen DIR]
                           [--worker NODE,…] [--endpoint HOST:PORT] [--user NAME]
                           [--deep [--no-disk | --device DEVICE | --image FILE]] [--etcd-data DIR]
                           [--json]

Prints the commands of RUNBOOK.md for this cluster and this damage, each with the node on which it
is typed. Only those that apply are printed, in order. FILE.html, such as
plan.html, is a page with boxes to tick and buttons that copy. The script checks this node as
00-assess does, and searches memory for lost keys; with --deep the disk, too. Reads only; it writes
the file that you name. Your options about nodes, the endpoint and etcd's data are saved, in memory
or in the rescue folder: later scripts on this node use them.

Options:
    --lost NODES     Nodes that are lost for good. Nothing is typed on them; part 2's line removes
                     them from etcd, and the page says how new ones join.
    --without NODES  Nodes that are away for now. Nothing is typed on them, nobody waits for them,
                     and they stay in the cluster.
    --lost-on NODES  Control plane nodes that you have searched: their keys are lost, too, or
                     another machine answers at their address. The plan's line that makes new keys
                     gets the same option.
    --start-without FLAGS
                     Make a plan that starts the API server without these flags (given without
                     dashes), as their files are lost for good.
    --seen DIR       The folder with the answers of all nodes: the plan prints the lines that
                     collect them, and is then made from them. Answers older than an hour do not
                     count.
    --worker NODES   Nodes that are workers, although their label calls them control plane nodes:
                     etcd has no member of theirs.
    --user NAME      Log in as this user in lines for your machine (default: root). The user may use
                     sudo on the nodes without a password.
    --json           Print the plan as data, also a refusal: npm run repair follows it.
    --deep           Search the disk as well, which takes long.
    --no-disk        Do not read the disk in the search of --deep.
    --device DEVICE, --image FILE
                     Read this in place of the device of /etc/kubernetes in the search of --deep.

Exit codes: 0 nothing is damaged, 1 could not look, 2 damage found,
            3 refused: the plan has to be made on another control plane node, or you have to
            search another node or decide something first`;

const OPTIONS = {
  lost: { type: "string", list: true },
  without: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  "start-without": { type: "string", list: true },
  seen: { type: "string", path: "proved" },
  worker: { type: "string", list: true },
  endpoint: { type: "string" },
  user: { type: "string" },
  json: { type: "boolean" },
  deep: { type: "boolean" },
  "no-disk": { type: "boolean" },
  device: { type: "string", file: "proved" },
  image: { type: "string", file: "proved" },
  "etcd-data": { type: "string", path: "proved" },
} as const;

/** Without --deep it searches memory. */
const MEMORY = { deep: true, "no-disk": true } as const;

function parse() {
  const words = { words: 1, allowPositionals: true, file: "written" } as const;
  const { values, positionals } = parseOptions({ options: OPTIONS, usage: USAGE, ...words });
  const places = values.deep || values.device || values.image ? values : MEMORY;
  return { ...values, file: positionals[0], deep: deepAsked(places) };
}

if (import.meta.main) await run(main);
