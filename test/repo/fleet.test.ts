/** scripts/fleet.yaml types what RUNBOOK.md says, in its order and on its nodes, and every play of it is a gate. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "yaml";
import { UNPACK } from "../../scripts/pack-kit.ts";
import { type Block, readRunbook } from "../lab/scene/runbook.ts";

interface Task {
  name: string;
  no_log?: boolean;
  when?: string;
  [module: string]: unknown;
}

interface Play {
  name: string;
  hosts: string;
  tags: string[];
  serial?: unknown;
  any_errors_fatal?: boolean;
  environment?: Record<string, string>;
  vars?: Record<string, unknown>;
  tasks: Task[];
}

const home = join(import.meta.dir, "../..");
const read = (path: string) => Bun.file(join(home, path)).text();
const text = await read("scripts/fleet.yaml");
const plays: Play[] = parse(text, { merge: true });
const runbook = await read("RUNBOOK.md");
const { blocks } = readRunbook(runbook);

/** Where the runbook has a line pasted that an earlier command printed, the playbook takes it from there. */
const PRINTED: [taken: string, line: string][] = [
  ["{{ hostvars[first].packed.stdout_lines | last", "./bunw scripts/hand-over.ts unpack"],
  ["{{ hostvars[first].join_line", "./bunw scripts/03-workers.ts join"],
];
const HOSTS: Record<string, string> = {
  "first_control_plane:other_control_planes": "each-control-plane",
  "first_control_plane:other_control_planes:workers": "each-node",
  first_control_plane: "first-control-plane",
  other_control_planes: "other-control-planes",
  workers: "each-worker",
};

function commandOf(task: Task): string | undefined {
  const given = task["ansible.builtin.command"] ?? task["ansible.builtin.shell"] ?? task["ansible.builtin.raw"];
  return typeof given === "string" ? given : (given as { cmd: string } | undefined)?.cmd;
}

/** What a play types on its nodes, as the runbook would say it: choices of the operator made as after a loss of all. */
function typed(command: string): string {
  for (const [taken, line] of PRINTED) if (command.startsWith(taken)) return line;
  return command
    .replace(/\{\{ '(--new-cas)' if .*?\}\}/, "$1")
    .replace(/\{\{ '--(dry-run|without) ?' .*?\}\}/g, "")
    .trim();
}

/** Without what locks a bundle: the runbook's parts do it with a passphrase, the playbook with identities. */
function bare(command: string): string {
  const [, script] = command.match(/^\.\/bunw scripts\/hand-over\.ts (\w+)/) ?? [];
  return script ? `./bunw scripts/hand-over.ts ${script}` : command;
}

const commands = plays.flatMap(({ hosts, tasks }) =>
  tasks.flatMap((task) => {
    const command = commandOf(task);
    return command?.match(/bunw|systemctl|hostvars/) ? [{ on: HOSTS[hosts]!, command: typed(command) }] : [];
  }),
);

test("the playbook types what parts 0 to 3 of the runbook type, on the same nodes, in the same order", () => {
  const tags = [undefined, "new-cas", "several-control-planes"];
  const meant = blocks.filter(
    ({ part, on, if: tag }) => part !== undefined && part <= 3 && on && (tag ?? [undefined]).some((one) => tags.includes(one)),
  );
  const lines = meant.flatMap((block) => block.commands.filter(isOurs).map((command) => `${block.on}: ${bare(example(block, command))}`));
  // On many nodes only memory is searched; a disk takes its own time.
  const own = commands.filter(({ command }) => !/hand-over.ts identity|00-salvage.ts memory/.test(command));
  // The playbook looks at the workers, too.
  const wanted = lines.map((line) => line.replace("each-control-plane: ./bunw scripts/00", "each-node: ./bunw scripts/00"));
  expect(own.map(({ on, command }) => `${on}: ${bare(command)}`)).toEqual(wanted);
});

const isOurs = (command: string) => /^(\.\/bunw scripts\/|systemctl )/.test(command);

/** Of a line that was printed before, what it begins with. */
function example({ printed }: Block, command: string): string {
  return printed ? command.split(" ").slice(0, 3).join(" ") : command;
}

test("the loop beside it in the runbook types the same", () => {
  const section = runbook.slice(runbook.indexOf("**The loop**"), runbook.indexOf("## Clean up"));
  const loop = [...section.matchAll(/(?:"|'|\$n )(\.\/bunw [^'"]+|systemctl stop kubelet)|"\$\{?(line)/g)].map(
    ([, command, line]) => command ?? line!,
  );
  const printed = new Map(PRINTED.map(([, line]) => [line, "line"]));
  const own = commands.map(({ command }) => printed.get(command) ?? command.replace("{{ recipients }}", "$to"));
  expect(new Set(loop)).toEqual(new Set(own));
});

test("the kit's folder is made, or refused, and the kit is unpacked, as the runbook does it", () => {
  expect(runbook.split(`'${UNPACK}' < kit.tar.gz`)).toHaveLength(3);
  const [make, , unpack] = plays.flatMap(({ tasks }) => tasks).filter((task) => JSON.stringify(task).includes("kube-pki-repair"));
  const { cmd } = unpack!["ansible.builtin.shell"] as { cmd: string };
  expect(cmd).toBe(`exec < kit.tar.gz\n${UNPACK}`);
  const making = UNPACK.split("\n").slice(0, 3);
  expect(make!["ansible.builtin.raw"]).toBe([...making, "  rm -rf $D/tmp && mkdir $D/tmp"].join("\n"));
});

test("each play is a gate, and gathers nothing", () => {
  expect(plays.length).toBeGreaterThan(0);
  for (const { any_errors_fatal, gather_facts } of plays as (Play & { gather_facts: boolean })[])
    expect({ any_errors_fatal, gather_facts }).toEqual({ any_errors_fatal: true, gather_facts: false });
  expect(text).not.toMatch(/ignore_(errors|unreachable)|rescue:|max_fail_percentage/);
  expect([...text.matchAll(/failed_when:.*/g)].map(([line]) => line)).toEqual(Array(2).fill("failed_when: ran.rc not in [0, 2]"));
});

test("Ansible keeps its own files in the kit's folder; before that is made it needs none", () => {
  const folder = plays.findIndex(({ tasks }) => tasks.some((task) => task.name.startsWith("Make it")));
  for (const [i, { environment, vars, tasks }] of plays.entries()) {
    expect(vars?.ansible_remote_tmp).toBe("/run/kube-pki-repair/tmp");
    if (i > folder) expect(environment?.TMPDIR).toBe("/run/kube-pki-repair/tmp");
    else for (const task of tasks) expect(Object.keys(task)).toContainEqual(expect.stringMatching(/^ansible.builtin.(raw|assert)$/));
  }
  expect(text.match(/(?<=[\s"'=])\/(dev\/shm|run|tmp)\b(?!\/kube-pki-repair\b)\S*/g)).toBeNull();
});

test("what holds a secret is not logged, and goes through stdin", () => {
  const carry = plays.flatMap(({ tasks }) => tasks).filter((task) => /slurp|stdin/.test(JSON.stringify(task)));
  expect(carry.map(({ no_log }) => no_log)).toEqual([true, true, true, true]);
  expect(commands.filter(({ command }) => /token\.content|sealed\.content/.test(command))).toEqual([]);
});

test("workers join in batches, the first one alone", () => {
  expect(plays.flatMap(({ hosts, serial }) => (serial ? [[hosts, serial]] : []))).toEqual([["workers", [1, "{{ batch | default(20) }}"]]]);
});

test("the inventory's groups are those of the playbook, and it does not switch the check of host keys off", async () => {
  const inventory = await read("scripts/inventory.example.yaml");
  expect(Object.keys(parse(inventory).all.children).sort()).toEqual(["first_control_plane", "other_control_planes", "workers"]);
  expect(inventory + (await read("scripts/ansible.cfg")) + text).not.toMatch(/StrictHostKeyChecking|host_key_checking|HOST_KEY_CHECKING/);
});
