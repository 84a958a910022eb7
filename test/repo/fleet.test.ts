/**
 * scripts/fleet.yaml types the commands of RUNBOOK.md, in the same order and on the same nodes; what is a
 * gate, and what is none.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "yaml";
import { PACK_RUNS } from "../../shared/node/rescue-folder.ts";
import { asRoot } from "../../shared/plan/login.ts";
import { type Block, readRunbook } from "../../shared/plan/runbook.ts";
import { UNPACK } from "../../tools/pack/pack-kit.ts";

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
const [runbook, more] = (await Promise.all(["RUNBOOK.md", "RUNBOOK-MORE.md"].map(read))) as [string, string];
const { blocks } = readRunbook(runbook);

/**
 * Where an operator pastes a line that an earlier command printed, the playbook takes it from that command's
 * output.
 */
const PRINTED: [taken: string, line: string][] = [
  ["{{ hostvars[first].packed.stdout_lines | last", "./bunw scripts/hand-over.ts unpack"],
  ["{{ hostvars[first].join_line", "./bunw scripts/03-join.ts"],
];
const HOSTS: Record<string, string> = {
  "first_control_plane:other_control_planes": "each-control-plane",
  "first_control_plane:other_control_planes:workers": "each-node",
  first_control_plane: "first-control-plane",
  other_control_planes: "other-control-planes",
  workers: "each-worker",
};

function commandOf(task: Task): string | undefined {
  const given =
    task["ansible.builtin.command"] ?? task["ansible.builtin.shell"] ?? task["ansible.builtin.raw"];
  return typeof given === "string" ? given : (given as { cmd: string } | undefined)?.cmd;
}

/**
 * What a play types on its nodes, as the runbook writes it; for the operator's choices, those after all keys
 * are lost.
 */
function typed(command: string): string {
  for (const [taken, line] of PRINTED) if (command.startsWith(taken)) return line;
  return command
    .replace(/\{\{ '(--new-cas)' if .*?\}\}/, "$1")
    .replace(/\{\{ (?:'--(?:dry-run|lost) ?'|away_option|lost_on_option).*?\}\}/g, "")
    .trim();
}

/** Without the options of encryption: the runbook's parts use a passphrase, the playbook uses identities. */
function bare(command: string): string {
  const [, script] = command.match(/^\.\/bunw scripts\/hand-over\.ts (\w+)/) ?? [];
  return script ? `./bunw scripts/hand-over.ts ${script}` : command;
}

/** A play that only its tag starts is no step of the repair. */
const repair = plays.filter(({ tags }) => !tags.includes("never"));

const commands = repair.flatMap(({ hosts, tasks }) =>
  tasks.flatMap((task) => {
    const command = commandOf(task);
    return command?.match(/bunw|systemctl|pgrep|hostvars/)
      ? [{ on: HOSTS[hosts]!, command: typed(command) }]
      : [];
  }),
);

test("the playbook types what parts 0 to 3 of the runbook type, on the same nodes, in the same order", () => {
  const tags = [undefined, "new-cas", "join", "several-control-planes"];
  const meant = blocks.filter(
    ({ part, on, if: tag }) =>
      part !== undefined && part <= 3 && on && (tag ?? [undefined]).some((one) => tags.includes(one)),
  );
  const lines = meant.flatMap((block) =>
    block.commands.filter(isOurs).map((command) => `${block.on}: ${bare(example(block, command))}`),
  );
  // On many nodes only memory is searched: a disk takes hours.
  const own = commands.filter(({ command }) => !/hand-over.ts identity|00-salvage.ts memory/.test(command));
  // The playbook also looks at the workers.
  const look = ": ./bunw scripts/00-assess.ts";
  const wanted = lines.flatMap((line) =>
    line === `each-control-plane${look}` ? [line, `each-worker${look}`] : line,
  );
  expect(own.map(({ on, command }) => `${on}: ${bare(command)}`)).toEqual(wanted);
});

const isOurs = (command: string) => /^(\.\/bunw scripts\/|systemctl |for p in )/.test(command);

/** Of a printed line, its beginning. */
function example({ printed }: Block, command: string): string {
  return printed ? /^\.\/bunw scripts\/\S+(?: [a-z]+(?= |$))?/.exec(command)![0] : command;
}

test("the loop beside it in the runbook types the same", () => {
  const section = more.split("**The loop**")[1]!.split("\n## ")[0]!;
  const loop = [
    ...section.matchAll(
      /(?:"|'|\{ )(\.\/bunw [^'"]+|systemctl stop kubelet|for p in .*? \|\| true)|"\$\{?(line)/g,
    ),
  ].map(([, command, line]) => command ?? line!);
  const printed = new Map(PRINTED.map(([, line]) => [line, "line"]));
  const own = commands.map(
    ({ command }) => printed.get(command) ?? command.replace("{{ recipients }}", "$to"),
  );
  expect(new Set(loop)).toEqual(new Set(own));
});

/** Ansible's own folder: root's, and one of the user with whom it comes. */
const TMP = [
  "  rm -rf $D/tmp && mkdir $D/tmp",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is sh's
  '  [ -z "${SUDO_UID:-}" ] || install -d -m 700 -o "$SUDO_UID" $D-tmp',
];

test("the playbook makes or refuses the kit's folder, and unpacks the kit, as the runbook does", () => {
  for (const page of [runbook, more]) expect(page.split(`'${UNPACK}' < kit.tar.gz`)).toHaveLength(2);
  expect(more).toContain(`\nssh ubuntu@NODE ${asRoot("ubuntu", UNPACK)} < kit.tar.gz `);
  const [make, , , unpack] = plays
    .flatMap(({ tasks }) => tasks)
    .filter((task) => JSON.stringify(task).includes("kube-pki-repair"));
  const { cmd } = unpack!["ansible.builtin.shell"] as { cmd: string };
  expect(cmd).toBe(`exec < kit.tar.gz\n${UNPACK}`);
  const making = UNPACK.split("\n").slice(0, 3);
  expect(make!["ansible.builtin.raw"]).toBe([...making, ...TMP].join("\n"));
});

test("the drill has a play that only its tag starts, on all control plane nodes; the kit comes first", () => {
  const { hosts, tags, tasks } = plays.find(
    (play) => play.tags.includes("drill") && play.tags.includes("never"),
  )!;
  expect([hosts, tags]).toEqual(["first_control_plane:other_control_planes", ["drill", "never"]]);
  expect(commandOf(tasks[0]!)).toBe("./bunw scripts/drill.ts");
  expect(plays.find(({ name }) => name === "Copy the kit to the control plane nodes")!.tags).toContain(
    "drill",
  );
});

test("the report has plays that only its tag starts: each node packs its transcripts with the line that report prints", () => {
  const [collect, write] = plays.filter((play) => play.tags.includes("report"));
  expect([collect, write].map((play) => [play!.hosts, play!.tags])).toEqual([
    ["first_control_plane:other_control_planes:workers", ["report", "never"]],
    ["first_control_plane", ["report", "never"]],
  ]);
  expect(commandOf(collect!.tasks[0]!)).toBe(`(${PACK_RUNS}) > transcripts`);
  expect(write!.tasks.map(commandOf)).toContain("./bunw scripts/report.ts report.html --logs .");
});

test("each play is a gate, but those of the workers and the one that collects transcripts: nobody there holds up the others, not by silence either", () => {
  expect(plays.length).toBeGreaterThan(0);
  const open = [
    "The same on the workers",
    "Copy the kit to the workers",
    "0 Assess the workers",
    "3 Workers, the first one alone",
    "The transcripts of all nodes, into",
  ];
  // a second one, over a merged one, has Ansible warn on every run
  expect(text.match(/any_errors_fatal:/g)).toHaveLength(1);
  for (const { name, any_errors_fatal = false, gather_facts, timeout } of plays as (Play & {
    gather_facts: boolean;
    timeout?: number;
  })[]) {
    const isOpen = open.some((begin) => name.startsWith(begin));
    expect({ name, any_errors_fatal, gather_facts, timeout }).toEqual({
      ...{ name, any_errors_fatal: !isOpen, gather_facts: false },
      timeout: isOpen ? 900 : undefined,
    });
  }
  expect(text).not.toMatch(/ignore_(errors|unreachable)|rescue:|max_fail_percentage/);
  const mayEnd = [...text.matchAll(/failed_when: (.*)/g)].map(([, codes]) => codes!);
  const refused = mayEnd.indexOf("ran.rc not in [0, 3]");
  expect(mayEnd.toSpliced(refused, 1)).toEqual(Array(4).fill("ran.rc not in [0, 2]"));
  // it stops there all the same, and says why
  expect(text).toMatch(/\[0, 3\]\n +- \*show\n.*\n +ansible\.builtin\.assert:\n +that: ran\.rc == 0\n/);
});

test("Ansible keeps its own files in the kit's folder; until that exists it needs no files", () => {
  const folder = plays.findLastIndex(({ tasks }) => tasks.some((task) => task.name.startsWith("Make it")));
  for (const [i, { environment, vars, tasks }] of plays.entries()) {
    expect(vars?.ansible_remote_tmp).toMatch(
      /^\{\{ '\/run\/kube-pki-repair-tmp' if ansible_become .* else '\/run\/kube-pki-repair\/tmp' \}\}$/,
    );
    if (i > folder) expect(environment?.TMPDIR).toBe("/run/kube-pki-repair/tmp");
    else
      for (const task of tasks)
        expect(Object.keys(task)).toContainEqual(expect.stringMatching(/^ansible.builtin.(raw|assert)$/));
  }
  expect(text.match(/(?<=[\s"'=])\/(dev\/shm|run|tmp)\b(?!\/kube-pki-repair\b)\S*/g)).toBeNull();
});

test("a task with a secret is not logged, and the secret goes through stdin", () => {
  const carry = plays
    .flatMap(({ tasks }) => tasks)
    .filter((task) => /slurp|stdin/.test(JSON.stringify(task)));
  expect(carry.map(({ no_log }) => no_log)).toEqual([true, true, true, true]);
  expect(commands.filter(({ command }) => /token\.content|sealed\.content/.test(command))).toEqual([]);
});

test("workers join in batches, the first one alone", () => {
  expect(repair.flatMap(({ hosts, serial }) => (serial ? [[hosts, serial]] : []))).toEqual([
    ["workers", [1, "{{ batch | default(20) }}"]],
  ]);
});

test("the first play sees every host of an inventory, and refuses the old names of groups and variables with the new ones", () => {
  const [play] = plays;
  const { that, fail_msg } = play!.tasks[0]!["ansible.builtin.assert"] as {
    that: string[];
    fail_msg: string;
  };
  expect([play!.hosts, play!.tags]).toEqual(["all", ["always"]]);
  const old = that.map((condition) => condition.match(/^(?:groups\.)?(\w+) is not defined$/)?.[1]);
  expect(old).toEqual(["first_master", "other_masters", "lost_masters"]);
  for (const name of old)
    expect(fail_msg).toContain(`${name} to ${name!.replace(/masters?/, (word) => NEW[word]!)}`);
});

const NEW: Record<string, string> = { master: "control_plane", masters: "control_planes" };

test("the inventory's groups are those of the playbook, and it does not switch the check of host keys off", async () => {
  const inventory = await read("scripts/inventory.example.yaml");
  expect(Object.keys(parse(inventory).all.children).sort()).toEqual([
    "first_control_plane",
    "other_control_planes",
    "workers",
  ]);
  expect(inventory + (await read("scripts/ansible.cfg")) + text).not.toMatch(
    /StrictHostKeyChecking|host_key_checking|HOST_KEY_CHECKING/,
  );
});

test("CAs are renewed on one control plane node after the other, then on the workers, with the kit there", () => {
  const renewing = plays.filter(({ tags }) => tags.includes("renew") && tags.includes("never"));
  expect(renewing.map(({ hosts, serial }) => [hosts, serial])).toEqual([
    ["first_control_plane:other_control_planes", 1],
    ["workers", [1, "{{ batch | default(1) }}"]],
  ]);
  for (const { tasks, any_errors_fatal } of renewing)
    expect([any_errors_fatal, commandOf(tasks[0]!)]).toEqual([
      true,
      "./bunw scripts/renew-ca.ts {{ '--dry-run' if ansible_check_mode else '' }}",
    ]);
  const copies = plays.filter(({ name }) => name.startsWith("Copy the kit to the"));
  expect(copies.map(({ tags }) => tags.includes("renew"))).toEqual([true, true]);
});
