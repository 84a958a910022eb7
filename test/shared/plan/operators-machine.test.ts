/**
 * What is pasted on the operator's machine, in a real bash with a played ssh: in a folder where another user has laid
 * links, with the address of another cluster's machine in a worker's Node, and in a second window.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { workersList } from "../../../shared/plan/many-workers.ts";
import { askLines } from "../../../shared/plan/note.ts";
import { keptLine, printedLines, sideBySide, sshLines, terminalLines } from "../../../shared/plan/paste.ts";
import {
  carryLines,
  gatherLines,
  kitLines,
  printedInto,
  toOperator,
} from "../../../shared/plan/paste-files.ts";
import type { Line, PlanNode } from "../../../shared/plan/plan-node.ts";
import { Terminal } from "../../lab/scene/terminal.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** Milliseconds. Thirty workers are many programs, on a machine that has other work. */
setDefaultTimeout(300_000);

const KIT = "ssh root@NODE 'tar -xzf -' < kit.tar.gz";
const cp1: PlanNode = { name: "cp1", role: "first control plane node", address: "10.0.0.1" };
const cp2: PlanNode = { name: "cp2", role: "control plane node", address: "10.0.0.2" };

/** A node of another cluster: its root writes this address into no Node, the root of w1 does. */
const ELSEWHERE = "10.200.7.5";

function workers(count: number): PlanNode[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `w${i + 1}`,
    role: "worker",
    address: i === 0 ? ELSEWHERE : `10.0.1.${i + 1}`,
  }));
}

/**
 * As ssh does it: it compares the host key with what it knows by the alias, or else by the address. `known` has a name and
 * the address of its machine on each line. It asks about what it does not know, and the operator says no.
 */
const SSH = `#!/bin/bash
alias=
for word; do case "$word" in HostKeyAlias=*) alias=\${word#*=};; esac; done
ends=$(printf "%s\\n" "$@" | grep -oE "^[a-z]+@[0-9.]+" | sed "s/.*@//")
for host in $ends; do
  if ! grep -qx "\${alias:-$host} $host" $AT/known; then echo "no to \${alias:-$host} at $host" >> $AT/asked; exit 255; fi
  echo "$host \${0##*/} $*" >> $AT/ran
done
case "\${0##*/} $*" in
  scp*) cp $AT/of-the-node "\${@: -1}";;
  *) cat $AT/of-the-node;;
esac
exit 0
`;

/** A folder with the kit in which eve has laid links to a file of the operator's. */
function operatorsMachine(dir: string, known: readonly string[]) {
  for (const folder of ["bin", "here", "home"]) mkdirSync(`${dir}/${folder}`);
  for (const name of ["ssh", "scp"]) writeFileSync(`${dir}/bin/${name}`, SSH, { mode: 0o755 });
  writeFileSync(`${dir}/bin/ssh-keygen`, '#!/bin/bash\ngrep -q "^$2 " $AT/known\n', { mode: 0o755 });
  writeFileSync(`${dir}/known`, `${known.join("\n")}\n`);
  writeFileSync(`${dir}/of-the-node`, "of eve\n");
  writeFileSync(`${dir}/home/authorized_keys`, "of the operator\n");
  writeFileSync(`${dir}/here/kit.tar.gz`, "a kit");
  for (const name of ["asked", "ran"]) writeFileSync(`${dir}/${name}`, "");
  const env = { PATH: `${dir}/bin:/usr/bin:/bin`, AT: dir, HOME: `${dir}/home`, TMPDIR: dir };
  return {
    env,
    cwd: `${dir}/here`,
    link: (name: string) =>
      symlinkSync("../../home/authorized_keys".slice(name.includes("/") ? 0 : 3), `${dir}/here/${name}`),
    read: (name: string) => readFileSync(`${dir}/${name}`, "utf8"),
    async paste(lines: readonly Line[]) {
      const text = lines.map((line) => `${line.text}\n`).join("");
      const child = Bun.spawn(["bash"], {
        cwd: `${dir}/here`,
        env,
        stdin: Buffer.from(text),
        stdout: "pipe",
        stderr: "pipe",
      });
      const [stdout, stderr] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      return { stdout, stderr, exitCode: await child.exited };
    },
  };
}

const byAddress = (nodes: readonly PlanNode[]) => nodes.map(({ address }) => `${address} ${address}`);
const byName = (nodes: readonly PlanNode[]) => nodes.map(({ name, address }) => `${name} ${address}`);

test.each(["root", "ubuntu"])(
  "for %s no line writes through a name that is known beforehand: eve's links in the current folder lead to nothing new",
  async (user) => {
    using box = sandbox();
    const nodes = [cp1, ...workers(30)];
    const machine = operatorsMachine(box.dir, [...byAddress(nodes), ...byName(nodes)]);
    mkdirSync(`${machine.cwd}/seen.d`);
    const names = ["seen.d/w1.json", "seen.d/cp1.json", "workers", "plan.html", "report.html", "keys.age"];
    for (const name of names) machine.link(name);
    const before = readdirSync(machine.cwd, { recursive: true });
    const ask = askLines({ user, said: {}, unkept: {}, nodes, kit: KIT });
    const { stderr } = await machine.paste([
      { text: ask },
      ...(workersList(nodes) ?? []),
      ...kitLines(user, nodes, KIT),
      ...sshLines(user, nodes, "rm -rf /root/kube-pki-repair-*"),
      ...carryLines(user, cp1, nodes.slice(1), ["token.d/NODE/token"]),
      ...["plan.html", "report.html", "/root/keys.age"].map((file) => toOperator(user, cp1, file)),
    ]);
    expect(stderr).toBe("");
    expect(machine.read("home/authorized_keys")).toBe("of the operator\n");
    expect(readdirSync(machine.cwd, { recursive: true })).toEqual(before);
  },
);

test.each(["root", "ubuntu"])(
  "a file that comes to the operator's machine as %s lies in a new folder of its home, and the line says where",
  async (user) => {
    using box = sandbox();
    const machine = operatorsMachine(box.dir, byAddress([cp1]));
    const { stdout, stderr, exitCode } = await machine.paste([toOperator(user, cp1, "report.html")]);
    expect([stderr, exitCode]).toEqual(["", 0]);
    const path = stdout.trim();
    expect(path).toMatch(/\/home\/from-cp1-\w{6}\/report\.html$/);
    expect(readFileSync(path, "utf8")).toBe("of eve\n");
    // root's own folder of that name pattern is the rescue folder
    expect(path).not.toContain("kube-pki-repair-");
  },
);

test("the block that asks all nodes leaves nothing behind, and ends as the plan there ends", async () => {
  using box = sandbox();
  const machine = operatorsMachine(box.dir, byAddress([cp1]));
  writeFileSync(
    `${box.dir}/bin/ssh`,
    `${SSH.replace("exit 0\n", "")}tar -tf - > $AT/brought 2> /dev/null\nexit 2\n`,
    { mode: 0o755 },
  );
  const { exitCode } = await machine.paste([
    { text: askLines({ user: "root", said: {}, unkept: {}, nodes: [cp1], kit: KIT }) },
  ]);
  expect(exitCode).toBe(2);
  expect(machine.read("brought")).toContain("seen.d/cp1.json");
  const left = readdirSync(box.dir).toSorted();
  expect(left).toEqual(["asked", "bin", "brought", "here", "home", "known", "of-the-node", "ran"]);
});

/** Each kind of line that reaches workers. */
const LINES: Record<string, (user: string, nodes: readonly PlanNode[]) => readonly Line[]> = {
  "the look at all nodes": (user, nodes) => [
    { text: askLines({ user, said: {}, unkept: {}, nodes, kit: KIT }) },
  ],
  "the kit": (user, nodes) => kitLines(user, nodes, KIT),
  "a script": (user, nodes) => sshLines(user, nodes, "./bunw scripts/05-verify.ts"),
  "scripts side by side": (user, nodes) =>
    sideBySide(sshLines(user, nodes.slice(0, 3), "./bunw scripts/05-verify.ts")),
  "the removal": (user, nodes) => sshLines(user, nodes, "rm -rf /root/kube-pki-repair-*"),
  "the kubelet's restart": (user, nodes) => sshLines(user, nodes, "systemctl restart kubelet"),
  "a script with a terminal": (user, nodes) =>
    terminalLines(user, nodes, "./bunw scripts/00-salvage.ts secret"),
  "a line that is kept": (user, nodes) => [keptLine(user, nodes[1]!, "./bunw scripts/00-salvage.ts")],
  "the join": (user, nodes) => [
    { text: "line='./bunw scripts/03-join.ts'" },
    ...printedLines(user, nodes, { step: "3a" }),
  ],
  "a token": (user, nodes) => carryLines(user, cp1, nodes.slice(1), ["token.d/NODE/token"]),
  "a file without a secret": (user, nodes) => carryLines(user, cp1, nodes.slice(1), ["about.txt"]),
  transcripts: (user, nodes) => gatherLines(user, cp1, nodes.slice(1), "logs.d"),
  "old tokens": (user, nodes) => [{ text: printedInto("tokens", user, { from: nodes[1]!, to: cp1 }, "cat") }],
};

test.each(
  Object.keys(LINES).flatMap((what) =>
    ["root", "ubuntu"].flatMap((user) => [3, 30].map((count) => [what, user, count] as const)),
  ),
)(
  "%s, as %s, with %d workers: an address that w1 claims, and that ssh knows as another cluster's, gets nothing",
  async (what, user, count) => {
    using box = sandbox();
    const nodes = [cp1, ...workers(count)];
    const [, ...honest] = workers(count);
    const machine = operatorsMachine(box.dir, [...byAddress([cp1, ...workers(count)]), ...byName(honest)]);
    const list = workersList(nodes) ?? [];
    await machine.paste([...list, ...LINES[what]!(user, nodes)]);
    const ran = machine.read("ran").split("\n");
    expect(ran.filter((line) => line.startsWith(`${ELSEWHERE} `))).toEqual([]);
    expect(machine.read("asked")).toContain(`no to w1 at ${ELSEWHERE}\n`);
    // all others get it, as ever
    const [more] =
      LINES[what]!.length && ["a line that is kept", "old tokens", "scripts side by side"].includes(what)
        ? [[]]
        : [honest];
    for (const { address } of more) expect(ran.join("\n")).toContain(`${address} ssh `);
  },
);

test.each(["root", "ubuntu"])(
  "a second window that has no list of the workers says which step has it, and types nothing anywhere",
  async (user) => {
    using box = sandbox();
    const nodes = [cp1, ...workers(30)];
    const machine = operatorsMachine(box.dir, [...byAddress(nodes), ...byName(nodes)]);
    await using bash = new Terminal([], { cwd: machine.cwd, env: machine.env });
    const lines = [
      ...sshLines(user, nodes.slice(1), "rm -rf /root/kube-pki-repair-*"),
      ...sshLines(user, nodes.slice(1), "./bunw scripts/05-verify.ts"),
      ...carryLines(user, cp1, nodes.slice(1), ["token.d/NODE/token"]),
      ...gatherLines(user, cp1, nodes.slice(1), "logs.d"),
    ];
    for (const { text } of lines) {
      const { stderr } = await bash.paste(text);
      expect(stderr).toContain("workers: this window has no list of the workers: ");
    }
    expect(machine.read("ran")).toBe("");
    // with the list, the same lines go on in that window
    for (const { text } of workersList(nodes)!) await bash.paste(text);
    await bash.paste(lines[0]!.text);
    expect(machine.read("ran").trim().split("\n")).toHaveLength(30);
  },
);

test("no word of the workers' list is read as shell, here or there", async () => {
  using box = sandbox();
  const strange: PlanNode[] = workers(30).map((node, i) => (i === 1 ? { ...node, name: "node 3" } : node));
  const machine = operatorsMachine(box.dir, [...byAddress(strange), "node-3 10.0.1.2"]);
  const nodes = [cp1, ...strange];
  await machine.paste([
    ...workersList(nodes)!,
    ...sshLines("root", strange, "rm -rf /root/kube-pki-repair-*"),
  ]);
  expect(machine.read("ran")).toBe(
    "10.0.1.2 ssh -n -o HostKeyAlias=node-3 root@10.0.1.2 rm -rf /root/kube-pki-repair-*\n",
  );
  expect(machine.read("asked").trim().split("\n")).toHaveLength(29);
});

/** What the pages say, and not what this file plays. */
test.each(["all-lost", "expired", "ha-all-lost", "pki-lost-alive", "user", "without"])(
  "every line of the plan %s that reaches a worker's address compares the host key with the worker's name",
  (name) => {
    const page = readFileSync(`${import.meta.dir}/../../transcripts/plan-${name}.txt`, "utf8");
    const reached = [...page.matchAll(/\b(?:ssh|scp) [^|;\n]*?@(10\.77\.0\.2\d)/g)];
    expect(reached.length).toBeGreaterThan(0);
    for (const [line] of reached) expect(line).toContain(" -o HostKeyAlias=w");
  },
);

test("a node that no plan reaches as a worker is known by its address, as ever", () => {
  expect(sshLines("root", [cp2], "rm -rf x")[0]!.text).toBe("ssh -n root@10.0.0.2 'rm -rf x'");
});

test("Ctrl-C ends a block of nodes side by side, at once and on all of them", async () => {
  using box = sandbox();
  const machine = operatorsMachine(box.dir, ["cp1 10.0.0.1", "cp2 10.0.0.2"]);
  const sleeps = ["cp1", "cp2"].map((at) => ({ at, text: "echo begun; sleep 600; echo ended" }));
  await using bash = new Terminal([], { cwd: machine.cwd, env: machine.env });
  bash.interruptAt(/cp1: begun[\s\S]*cp2: begun|cp2: begun[\s\S]*cp1: begun/);
  const { stderr, exitCode } = await bash.paste(sideBySide(sleeps)[0]!.text);
  expect([exitCode, stderr]).toEqual([130, expect.stringContaining("stopped here")]);
  expect(stderr).not.toContain("ended");
  const left = Bun.spawnSync(["pgrep", "-f", `^sleep 600$`], { stdout: "pipe" }).stdout.toString();
  expect(left.split("\n").filter((pid) => pid && isChildOf(pid, box.dir))).toEqual([]);
});

/** A process whose working directory is below the folder. */
function isChildOf(pid: string, dir: string): boolean {
  return Bun.spawnSync(["readlink", `/proc/${pid}/cwd`], { stdout: "pipe" })
    .stdout.toString()
    .startsWith(dir);
}
