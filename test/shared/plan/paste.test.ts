/** What an operator who is not root pastes: the command arrives at sudo's shell as it was written. */
import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  asRoot,
  isUserName,
  keptLine,
  printedLines,
  sideBySide,
  sshLines,
} from "../../../shared/plan/paste.ts";
import { carryLines, kitLines, tarPipe } from "../../../shared/plan/paste-files.ts";
import type { Line, PlanNode } from "../../../shared/plan/plan-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** The word goes through this bash, and through the shell at the other end, which has nothing but sudo. */
async function arrived(word: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "login-"));
  writeFileSync(`${folder}/sudo`, '#!/bin/bash\n[ "$1" = -n ] && shift && PATH=/usr/bin:/bin exec "$@"\n');
  chmodSync(`${folder}/sudo`, 0o755);
  const program = `there() { PATH=${folder} /bin/sh -c "$*"; }\nthere ${word}\n`;
  const child = Bun.spawn(["bash"], { stdin: Buffer.from(program), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  rmSync(folder, { recursive: true });
  expect(stderr).toBe("");
  return stdout;
}

test.each([
  ["echo two words; echo more", "two words\nmore\n"],
  ["echo 'single quotes' && echo \"double quotes\"", "single quotes\ndouble quotes\n"],
  [`printf '%s\\n' "it's" '$HOME' '\`id\`' '!!' '\\'`, "it's\n$HOME\n`id`\n!!\n\\\n"],
  ["x=1; echo $x; echo \\$x", "1\n$x\n"],
])("asRoot() of %s", async (command, output) => {
  expect(await arrived(asRoot("ubuntu", command))).toBe(output);
});

test("asRoot() is easy to read where it can be, and for root it is what it always was", () => {
  const command = "cd /run/kube-pki-repair && ./bunw scripts/01-etcd.ts";
  expect(asRoot("ubuntu", command)).toBe(`"sudo -n sh -c '${command}'"`);
  expect(asRoot("root", command)).toBe(`'${command}'`);
});

test.each([
  ["ubuntu", true],
  ["ec2-user", true],
  ["a.b_C9", true],
  ["_x", true],
  ["9", true],
  ["", false],
  ["-oProxyCommand=x", false],
  ["a b", false],
  ["a@b", false],
  ["a;reboot", false],
  ["$(id)", false],
  ["EXAMPLE\\jo", false],
  ["jörg", false],
  ["a\n", false],
])("isUserName(%p)", (name, is) => {
  expect(isUserName(name)).toBe(is);
});

const cp1 = { name: "cp1", role: "first control plane node", address: "10.0.0.1" } as const;
const cp2 = { name: "cp2.lab.example", role: "control plane node", address: "10.0.0.2" } as const;

/** Runs lines in a bash that has this instead of ssh. */
async function pasteInto(ssh: string, lines: readonly Line[]) {
  using box = sandbox();
  writeFileSync(`${box.dir}/ssh`, `#!/bin/bash\n${ssh}\n`, { mode: 0o755 });
  Bun.spawnSync(["mkfifo", `${box.dir}/pipe`]);
  const text = lines.map((line) => line.text).join("\n");
  const env = { PATH: `${box.dir}:/usr/bin:/bin`, AT: box.dir };
  const child = Bun.spawn(["bash"], { env, stdin: Buffer.from(`${text}\n`), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr };
}

test("side by side is at the same time, each line of output says its node, and the exit codes are shown", async () => {
  // opening a pipe waits for its other end: one after the other would never end
  const meets =
    'case "$2" in *.1) echo one > "$AT/pipe";; *) read -r x < "$AT/pipe"; echo "heard $x" >&2; exit 2;; esac';
  const { stdout, stderr } = await pasteInto(
    meets,
    sideBySide(sshLines("root", [cp1, cp2], "./bunw scripts/00-assess.ts")),
  );
  expect(stderr).toBe("");
  expect(stdout.trim().split("\n").toSorted()).toEqual([
    "cp1: exit code 0",
    "cp2.lab.example: exit code 2",
    "cp2.lab.example: heard one",
  ]);
});

test("lines of two nodes stay whole where no terminal reads them: each is written by itself", async () => {
  const meets = 'case "$2" in *.1) echo > "$AT/pipe";; *) read -r x < "$AT/pipe";; esac';
  const speaks =
    'for i in $(seq 2000); do echo "step $i \\n %s: of $2, which says more than a few words"; done';
  const lines = sideBySide(sshLines("root", [cp1, cp2], "./bunw scripts/02-control-plane.ts"));
  const { stdout, stderr } = await pasteInto(`${meets}; ${speaks}; printf "the last one"`, lines);
  expect(stderr).toBe("");
  const said = stdout.trimEnd().split("\n");
  const of = ({ name, address }: typeof cp1 | typeof cp2) =>
    said.filter((line) => line.startsWith(`${name}: `) && line.includes(`root@${address}, `));
  expect([of(cp1).length, of(cp2).length, said.length]).toEqual([2000, 2000, 4002]);
  expect(said).toContain("cp1: the last oneexit code 0");
  const is = (line: string) =>
    /^\S+: (step \d+ \\n %s: of root@10\.0\.0\.\d, which says more than a few words|the last oneexit code 0)$/.test(
      line,
    );
  expect(said.filter((line) => !is(line))).toEqual([]);
});

test("the kit goes to all nodes at the same time, when ssh has met each of them, one after the other", async () => {
  const line = "ssh root@NODE 'tar -xzf -' < /dev/null";
  const meets = `[ "$1" = -n ] && { echo "met $4" >> "$AT/calls"; exit; }
    echo "$1 $2" >> "$AT/calls"; case "$1" in *.1) echo one > "$AT/pipe";; *) read -r x < "$AT/pipe"; echo "heard $x";; esac`;
  const { stdout, stderr } = await pasteInto(
    `${meets}; sort -r "$AT/calls"`,
    kitLines("root", [cp1, cp2], line),
  );
  expect(stderr).toBe("");
  expect(stdout).toContain("cp2.lab.example: heard one\n");
  const calls = stdout.split("\n").filter((line) => /met|tar/.test(line));
  expect(new Set(calls.map((line) => line.replace(/^\S+: /, "")))).toEqual(
    new Set([
      "met root@10.0.0.1",
      "met root@10.0.0.2",
      "root@10.0.0.1 tar -xzf -",
      "root@10.0.0.2 tar -xzf -",
    ]),
  );
});

test("one script on one node shows its exit code, and so does one whose line is kept", async () => {
  const said = await pasteInto("echo './bunw scripts/x.ts'; exit 2", [
    ...sshLines("root", [cp1], "./bunw scripts/00-salvage.ts"),
    keptLine("root", cp1, "./bunw scripts/03-workers.ts open"),
  ]);
  expect(said.stdout).toBe("./bunw scripts/x.ts\nexit code 2\nexit code 2: ./bunw scripts/x.ts\n");
});

test("a window that does not have the line says which step to repeat, and claims nothing else", async () => {
  const { stdout, stderr } = await pasteInto("echo ran", printedLines("root", [cp1], { step: "1b" }));
  expect(stdout).not.toContain("ran");
  expect(stderr).toEndWith("line: this window has no line of step 1b: repeat 1b here\n");
  expect(stderr).not.toContain("nothing to do");
});

test("two files that go the same way go together", () => {
  const [line] = carryLines("root", cp1, [cp2], ["shared-keys.age", "about.txt"]);
  expect(line!.text).toBe(
    "scp -3 -p root@10.0.0.1:/run/kube-pki-repair/{shared-keys.age,about.txt} root@10.0.0.2:/run/kube-pki-repair/",
  );
  expect(carryLines("ubuntu", cp1, [cp2], ["a", "b"])[0]!.text).toContain(
    "tar -C /run/kube-pki-repair -cf - a b |",
  );
});

test.each(["root", "ubuntu"])(
  "for %s a secret goes to the machine that ssh knows by the node's name",
  (user) => {
    const sudo = user === "root" ? "" : "sudo -n ";
    const kit = "/run/kube-pki-repair";
    const [, token] = carryLines(user, cp1, [cp2], ["token.d/NODE/token"]);
    expect(token!.text).toBe(
      `(set -o pipefail; ssh -n ${user}@10.0.0.1 ${sudo}tar -C ${kit}/token.d/${cp2.name} -cf - token | ssh -o HostKeyAlias=${cp2.name} ${user}@10.0.0.2 ${sudo}tar -C ${kit} -xpf - token)`,
    );
    const [, keys] = carryLines(user, cp1, [cp2], ["shared-keys.age", "passphrase"]);
    expect(keys!.text).toContain(`| ssh -o HostKeyAlias=${cp2.name} `);
  },
);

test.each(["yes", "accept-new"])(
  "ssh that knows the machines by address alone, and is told StrictHostKeyChecking %s, asks before a secret goes: the lines that carry it ask nothing",
  async (strict) => {
    using box = sandbox();
    // as ssh does it: an option on the line counts, and then the configuration
    writeFileSync(
      `${box.dir}/ssh`,
      `#!/bin/bash
known=$AT/known; how=${strict}; for word; do case "$word" in HostKeyAlias=*) name=\${word#*=};; StrictHostKeyChecking=*) how=\${word#*=};; esac; done
grep -qx "$name" "$known" || case $how in
  ask) echo "asks about $name" >> $AT/asked; echo "$name" >> "$known";;
  accept-new) echo "trusts $name unseen" >> $AT/asked; echo "$name" >> "$known";;
  *) echo "no host key is known for $name" >&2; exit 255;;
esac
case "$*" in *tar*-xpf*) cat > $AT/$name.tar;; *) echo packed;; esac\n`,
      { mode: 0o755 },
    );
    writeFileSync(`${box.dir}/ssh-keygen`, '#!/bin/bash\ngrep -qx "$2" $AT/known\n', { mode: 0o755 });
    writeFileSync(`${box.dir}/known`, "10.0.0.1\n10.0.0.2\n10.0.0.3\n\n");
    const cp3 = { ...cp2, name: "cp3", address: "10.0.0.3" };
    const text = carryLines("root", cp1, [cp2, cp3], ["shared-keys.age", "passphrase"]).map(
      (line) => line.text,
    );
    const env = { PATH: `${box.dir}:/usr/bin:/bin`, AT: box.dir };
    const child = Bun.spawn(["bash"], { env, stdin: Buffer.from(`${text.join("\n")}\n`), stderr: "pipe" });
    expect(await new Response(child.stderr).text()).toBe("");
    expect(await Bun.file(`${box.dir}/asked`).text()).toBe("asks about cp2.lab.example\nasks about cp3\n");
    expect(await Bun.file(`${box.dir}/cp3.tar`).text()).toBe("packed\n");
  },
);

test("many workers are met by their names first, one after the other", async () => {
  const workers = Array.from(
    { length: 30 },
    (_, i): PlanNode => ({ name: `w${i}`, role: "worker", address: `10.0.1.${i}` }),
  );
  const [meet, all, ...more] = carryLines("root", cp1, workers, ["token.d/NODE/token"]);
  expect(more).toEqual([]);
  expect(meet!.text).toMatch(
    /^while read -r a n; do .* -o HostKeyAlias=\$n\} root@\$a true; done <<< "\$\{workers:\?.*\}"$/,
  );
  expect(all!.text).toMatch(
    /^xargs -P 20 -n 2 bash -c '.* -o HostKeyAlias=\$2 root@\$1 .*' _ <<< "\$\{workers:\?.*\}"$/,
  );
});

test.each(["policy.yaml", "my policy.yaml", "it's.yaml", "$(touch gone).yaml", "a;b.yaml"])(
  "a file called %s goes whole from node to node, past this shell and theirs",
  async (name) => {
    const at = mkdtempSync(join(tmpdir(), "pipe-"));
    for (const folder of ["from", "to"]) mkdirSync(join(at, folder));
    writeFileSync(join(at, "from", name), "x");
    const ends = { from: cp1, to: cp2 };
    const pipe = tarPipe("root", ends, { folder: `${at}/from`, into: `${at}/to`, names: [name] });
    const { stderr } = await pasteInto(
      'for a; do shift; case "$a" in root@*) break;; esac; done; sh -c "$*"',
      [{ text: `(${pipe})` }],
    );
    expect([stderr, readdirSync(join(at, "to"))]).toEqual(["", [name]]);
    rmSync(at, { recursive: true });
  },
);
