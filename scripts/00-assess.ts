#!/usr/bin/env bun
/**
 * RUNBOOK part 0: what is damaged on this node, what survives, and the commands that repair it.
 * Reads only; run it on any node, at any time.
 */
import { assess } from "../shared/assess/assess.ts";
import { kubeadmConfig } from "../shared/assess/kubeadm-config.ts";
import { assessmentAsJson, printAssessment } from "../shared/assess/printed.ts";
import { Fail, Refused } from "../shared/fail.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { factsForPlan } from "../shared/plan/plan-facts.ts";
import { printPlan } from "../shared/plan/print-plan.ts";
import { answer, run, step } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";

async function main() {
  const values = parse();
  if (values.help) return console.log(USAGE);
  if (values["kubeadm-config"]) return answer(await kubeadmConfig(values["etcd-data"]));
  const { plan, "etcd-data": etcdData } = values;
  if (!plan && OF_PLAN.some((name) => [values[name] ?? []].flat().length > 0)) throw ofPlan();
  const facts = plan ? await factsForPlan(etcdData, values) : undefined;
  const assessment = await step("0.1 Look at this node", () =>
    assess(etcdData, { deep: deepOptions(values), lost: facts?.lost }),
  );
  if (facts) await printPlan(assessment, facts, values.file);
  else if (values.json) answer(JSON.stringify(assessmentAsJson(assessment), null, 2));
  else printAssessment(assessment, values.output === "short");
  if (assessment.damaged) process.exitCode = 2;
}

const OF_PLAN = ["without", "lost", "lost-on", "worker", "endpoint", "user"] as const;

function ofPlan(): Fail {
  const names = OF_PLAN.map((name) => `--${name}`).join(", ");
  return new Fail(`${names} need --plan: they say what is in its lines`, {
    hint: "./bunw scripts/00-assess.ts --help",
  });
}

function deepOptions({ deep, plan, "no-disk": noDisk, device, image }: Values) {
  if (plan && !deep && !device && !image) noDisk = deep = true;
  if (deep)
    return {
      disk: noDisk ? undefined : (image ?? device ?? "own"),
      diskOption: image ? shell`--image ${image}` : device ? shell`--device ${device}` : "",
    };
  if (!noDisk && !device && !image) return undefined;
  throw new Fail("--no-disk, --device and --image need --deep: they say where it searches", {
    hint: "./bunw scripts/00-assess.ts --help",
  });
}

const USAGE = `Usage:
    ./bunw scripts/00-assess.ts [--deep [--no-disk | --device DEVICE | --image FILE]]
                                [--output short|json] [--kubeadm-config] [--etcd-data DIR]
    ./bunw scripts/00-assess.ts --plan [FILE.md | FILE.html] [--lost NODE,…] [--without NODE,…]
                                [--lost-on NODE,…] [--worker NODE,…] [--endpoint HOST:PORT]
                                [--user NAME] [--deep]

Prints what is damaged on this node, the worst first, how bad it is and what still works meanwhile,
where the old keys may still be, and which commands come next. Reads only; it writes the file that
--plan names.

Options:
    --deep           Search for each lost key in memory, in the Secret kubeadm-certs and in free
                     blocks of the disk. Print where each can still be found, and the rung of the
                     ladder: 0 all keys are here, 1 another control plane node or a Secret,
                     2 memory, 3 the disk, 4 a new CA with old tokens kept valid, 5 everything new.
                     Reads only: a key that is found is kept nowhere.
    --no-disk        Leave the disk out. Reading it takes long: all of it is read.
    --device DEVICE, --image FILE
                     Read this instead of the device that holds /etc/kubernetes.
    --plan [FILE]    Print RUNBOOK.md for this cluster and this damage instead: only the lines that
                     apply, in order, with the names and addresses of its nodes, ready to paste.
                     FILE.html is a page with boxes to tick and buttons that copy. It searches for
                     lost keys in memory; with --deep on the disk as well.
    --lost NODES     --plan: nodes that are lost for good. Nothing is typed on them; the lines that
                     take --lost have it, and the page says how a new one comes in.
    --lost-on NODES  --plan: control plane nodes that you have looked at: their keys are lost, too,
                     or what answers at their address is somebody else. The lines of parts 1 and 2
                     have it.
    --without NODES  --plan: nodes that are away for now. Nothing is typed on them, nobody waits for
                     them, and they stay in the cluster.
    --worker NODES   --plan: nodes that are workers, although their label says that they are control
                     plane nodes: etcd knows no member of them.
    --endpoint HOST:PORT
                     --plan: where the API is reached, if nothing decides between those who name a
                     place: the lines that take it have it.
    --user NAME      --plan: the lines are for this user of the nodes, who may use sudo there
                     without a password (default: root).
    --output WORD    short: only what is damaged, a line each, and what comes next. json: the same
                     for programs, with the version of its fields, and a summary.
    --json           The same as --output json.
    --kubeadm-config Print only what kubeadm's phases take with --config, out of etcd's data: for
                     clusters that this kit does not repair.
    --etcd-data DIR  etcd's data directory (default: found by itself).
    --help           Print this text.

Exit codes: 0 nothing is damaged, 1 could not look, 2 damage found,
            3 refused: this is no node of a kubeadm cluster, or a plan waits for your word
`;

const OPTIONS = {
  deep: { type: "boolean" },
  "no-disk": { type: "boolean" },
  device: { type: "string", file: "proved" },
  image: { type: "string", file: "proved" },
  output: { type: "string", oneOf: ["short", "json"] },
  json: { type: "boolean" },
  plan: { type: "boolean" },
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  worker: { type: "string", list: true },
  endpoint: { type: "string" },
  user: { type: "string" },
  "kubeadm-config": { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>;

function parse() {
  refuseDrill();
  const allowPositionals = process.argv.includes("--plan");
  const { values, positionals } = parseOptions({
    options: OPTIONS,
    allowPositionals,
    file: "written",
  });
  const [file, more] = positionals;
  const json = values.json || values.output === "json";
  if (more === undefined) return { ...values, json, file };
  throw new Fail(`"${more}" is not understood`, { hint: "./bunw scripts/00-assess.ts --help" });
}

/** What it was called before. */
function refuseDrill() {
  if (!process.argv.includes("--drill")) return;
  throw new Refused("The drill is a script of its own", {
    hint: "./bunw scripts/drill.ts, with the same options: --bundle, --backup, --json, --etcd-data",
  });
}

if (import.meta.main) await run(main);
