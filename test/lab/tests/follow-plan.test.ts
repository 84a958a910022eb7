/** A plan followed on pretend nodes, to see what is typed where: by the transcripts of plan. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { sideBySide, sshLines } from "../../../shared/plan/paste.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { pretendScene } from "../../pretend/scene.ts";
import { followPlan, readPlan } from "../scene/follow-plan.ts";
import { Terminal } from "../scene/terminal.ts";

/** The page of a transcript, with the addresses of the pretend scene. */
async function pageOf(name: string): Promise<string> {
  const transcript = await Bun.file(`${import.meta.dir}/../../transcripts/plan-${name}.txt`).text();
  return transcript
    .slice(transcript.indexOf("# The plan"), transcript.indexOf("\n----- stderr"))
    .replaceAll("127.77.0.11", "10.250.0.11")
    .replaceAll("127.77.0.12", "10.77.0.12")
    .replaceAll("127.77.0.13", "10.77.0.13")
    .replaceAll("10.77.0.12", "10.250.0.12");
}

const page = await pageOf("ha-all-lost");

const PLAN = "./bunw scripts/plan.ts";
const JOIN = "./bunw scripts/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d --token-file token";

test("readPlan() knows the part of each step, its lines, its exit codes and how its output ends", () => {
  const steps = readPlan(page);
  expect(steps.filter(({ part }) => part === 1).map(({ number }) => number)).toEqual([
    "1a",
    "1b",
    "1c",
    "1d",
    "1e",
    "1f",
  ]);
  expect(steps.find(({ lines }) => lines[0]!.includes("--deep"))).toMatchObject({ part: 0, exit: [0, 2] });
  expect(steps.find(({ part }) => part === 2)!.lines).toEqual([
    expect.stringMatching(/^\(\nas\(\) .*\nset -m\ntrap .* INT\n(\{ ssh .* &\n){3}wait\n\)$/),
  ]);
  expect(steps.find(({ lines }) => lines[0]!.includes("--new-cas"))).toMatchObject({
    part: 1,
    exit: [0],
    ends: "done.  next: …",
  });
  expect(steps.find(({ lines }) => lines[0]!.startsWith("export unpack='"))?.lines).toHaveLength(3);
});

test("readPlan() refuses a page without steps", () => {
  expect(() => readPlan("# The plan\n")).toThrow("The plan has no step");
});

test("what comes first is typed, and the plan that is made then is followed; so is one that a step has made", async () => {
  const first =
    "> This comes first. Then print the plan again.\n\n```sh\n./bunw scripts/move.ts\nssh -n root@10.250.0.11 'cd /run/kube-pki-repair && ./bunw scripts/plan.ts again'; echo \"exit code $?\"\n```\n";
  const makes = one(
    `ssh -n root@10.250.0.11 'cd /run/kube-pki-repair && ./bunw scripts/plan.ts'; echo "exit code $?"`,
  );
  const answers = {
    "./bunw scripts/plan.ts again": { stdout: one("ssh -n root@10.250.0.11 'systemctl stop kubelet'") },
  };
  const { typed } = await follow(first, answers, { first: true });
  expect(typed).toEqual([
    "cp1: ./bunw scripts/move.ts",
    "cp1: ./bunw scripts/plan.ts again",
    "cp1: systemctl stop kubelet",
  ]);
  const step = await follow(makes.replace("plan.ts'", "plan.ts again'"), answers);
  expect(step.typed).toEqual(["cp1: ./bunw scripts/plan.ts again", "cp1: systemctl stop kubelet"]);
});

const one = (lines: string, about = "Costs: nothing.") =>
  `## 1 etcd\n\n### [ ] 1a: Do it, on cp1\n\`\`\`sh\n${lines}\n\`\`\`\n${about}\n`;

async function follow(
  markdown: string,
  answers: Parameters<typeof pretendScene>[0] = {},
  asked: Parameters<typeof followPlan>[1] = {},
) {
  const { scene, typed } = pretendScene({ [PLAN]: { stdout: markdown }, ...answers });
  scene.lab.controlPlanes[1]!.ip = "10.250.0.12";
  await followPlan(scene, asked);
  return { scene, typed: typed.slice(1) };
}

test("followPlan() types each line where its address is, and the printed line as it was printed", async () => {
  const { typed } = await follow(
    one(
      `line=$(ssh -n root@10.250.0.11 'cd /kit && ./bunw x')\nssh -n root@10.250.0.12 "cd /kit && \${line:?nothing}"`,
    ),
    { "./bunw x": { stdout: `${JOIN}\n` } },
  );
  expect(typed).toEqual(["cp1: ./bunw x", `cp2: ${JOIN}`]);
});

test("followPlan() types a line for several nodes on each of them, by address or by name", async () => {
  const byAddress = "for a in 10.250.0.11 10.250.0.12; do ssh -n root@$a 'ls'; done";
  const byName =
    'printf "%s\\n" "10.250.0.11 cp1" "10.250.0.12 w2" | while read -r a n; do ssh -n -o HostKeyAlias=$n root@$a \'pwd\'; done';
  const { typed } = await follow(one(`${byAddress}\n${byName}`));
  expect(typed).toEqual(["cp1: ls", "cp2: ls", "cp1: pwd", "cp2: pwd"]);
});

test("followPlan() carries a file by its scp line", async () => {
  const { typed } = await follow(one("scp -3 -p root@10.250.0.11:/kit/token root@10.250.0.12:/kit/"), {
    "base64 -w0 /kit/token": { stdout: "dG9rZW4=" },
  });
  expect(typed).toEqual(["cp1: base64 -w0 /kit/token", "cp2: umask 077; base64 -d > /kit/token < dG9rZW4="]);
});

test.each([
  ["an address that no node has", "ssh -n root@10.9.9.9 'ls'", 'the address "10.9.9.9"'],
  ["a placeholder", "ssh -n root@ADDRESS-OF-w1 'ls'", 'the address "ADDRESS-OF-w1"'],
  ["a line of another form", "kubectl get nodes", "a line of another form: kubectl get nodes"],
  [
    "a line that nothing printed",
    `ssh -n root@10.250.0.11 "cd /kit && \${line:?nothing}"`,
    "types a line that nothing printed",
  ],
])("followPlan() is red at %s", async (_, line, error) => {
  await expect(follow(one(line))).rejects.toThrow(error);
});

test("followPlan() is red where the output ends otherwise than the plan says", async () => {
  const wanted = one("ssh -n root@10.250.0.11 'ls'", "Costs: nothing. Ends in `done.  next: …`.");
  await follow(wanted, { ls: { stderr: "x\n\ndone.  next: part 2\n" } });
  await expect(follow(wanted, { ls: { stderr: "done.  next: part 2\nerror: no\n" } })).rejects.toThrow(
    'it ended in "error: no"',
  );
});

test("followPlan() stops at a failure, as an operator would", async () => {
  const { scene, typed } = await follow(
    `${one("ssh -n root@10.250.0.11 'ls'")}${one("ssh -n root@10.250.0.11 'pwd'").replaceAll("1a:", "1b:")}`,
    {
      ls: { exitCode: 1 },
    },
  );
  expect([typed, scene.steps.at(-1)!.ok]).toEqual([["cp1: ls"], false]);
});

test.each([
  ["ha-all-lost", {}, PLAN, 4],
  ["without", { without: ["cp2"] }, `${PLAN} --lost cp2`, 3],
])("followPlan() can read every line of the plan %s", async (name, asked, typedFirst, printedLines) => {
  const page = await pageOf(name);
  const command = (line: string) => /(?:ssh -n [^'\n]*)'(?:cd \S+ && )?([^']+)'/.exec(line)?.[1] ?? "";
  const repair = readPlan(page).filter(({ part }) => part < 6);
  const ended = repair.flatMap(({ lines, ends = "" }) =>
    lines.map((line) => [command(line), { stdout: JOIN, stderr: ends }]),
  );
  const { scene, typed } = pretendScene({
    ...Object.fromEntries(ended),
    [typedFirst]: { stdout: page },
    [JOIN]: { stderr: "done.  next: close" },
  });
  const [cp1] = scene.lab.nodes;
  for (const name of ["cp3", "w2"]) scene.lab.nodes.push({ ...cp1!, name });
  for (const [index, ip] of [cp1!.ip, "10.250.0.12", "10.77.0.21", "10.77.0.13", "10.77.0.22"].entries())
    scene.lab.nodes[index]!.ip = ip;
  scene.kit = import.meta.path;
  await followPlan(scene, asked);
  expect(scene.steps.filter(({ ok }) => !ok)).toEqual([]);
  expect(typed.filter((line) => line.endsWith(JOIN))).toHaveLength(printedLines);
  expect(scene.steps.at(-1)!.command).toBe("./bunw scripts/05-verify.ts");
});

test.each(["ha-all-lost", "user"])(
  "each line of the plan %s is whole: bash could run it alone",
  async (name) => {
    const lines = readPlan(await pageOf(name)).flatMap((step) => step.lines);
    const broken = lines.filter((line) => Bun.spawnSync(["bash", "-n", "-c", line]).exitCode !== 0);
    expect(broken).toEqual([]);
    expect(lines.length).toBeGreaterThan(20);
  },
);

test("in a terminal, what runs side by side is one paste, and each node has its own output and the exit code that was shown", async () => {
  using box = sandbox();
  const ssh = '#!/bin/bash\ncase "$2" in *.11) echo all well >&2;; *) echo "error: no" >&2; exit 2;; esac\n';
  writeFileSync(`${box.dir}/ssh`, ssh, { mode: 0o755 });
  await using bash = new Terminal([], { cwd: box.dir, env: { PATH: `${box.dir}:/usr/bin:/bin` } });
  const nodes = [1, 2].map((n) => ({
    name: `cp${n}`,
    role: "control plane node" as const,
    address: `10.250.0.1${n}`,
  }));
  const [block] = sideBySide(sshLines("root", nodes, "./bunw scripts/02-control-plane.ts"));
  const { scene } = pretendScene({ [PLAN]: { stdout: one(block!.text) } });
  scene.lab.nodes[1]!.ip = "10.250.0.12";
  await followPlan(scene, { bash });
  expect(
    scene.steps
      .slice(1)
      .map(({ node, command, exitCode, stderr }) => [node, command, exitCode, stderr.trim()]),
  ).toEqual([
    ["cp1", "./bunw scripts/02-control-plane.ts", 0, "all well"],
    ["cp2", "./bunw scripts/02-control-plane.ts", 2, "error: no"],
  ]);
});

test("in a terminal the end of the plan is pasted, too: what shows a passphrase there leaks none, and every line is run", async () => {
  using box = sandbox();
  const says = 'case "$*" in *--generate*) echo 7d1f-7d1f-7d1f-7d1f-7d1f-7d1f > /dev/tty;; esac';
  for (const name of ["ssh", "scp"])
    writeFileSync(`${box.dir}/${name}`, `#!/bin/bash\n[ "$1" = -n ] && exec < /dev/null\n${says}\n`, {
      mode: 0o755,
    });
  await using bash = new Terminal([], { cwd: box.dir, env: { PATH: `${box.dir}:/usr/bin:/bin` } });
  const { scene } = pretendScene({ [PLAN]: { stdout: page } });
  const [cp1] = scene.lab.nodes;
  for (const name of ["cp3", "w2"]) scene.lab.nodes.push({ ...cp1!, name });
  for (const [index, ip] of [cp1!.ip, "10.250.0.12", "10.77.0.21", "10.77.0.13", "10.77.0.22"].entries())
    scene.lab.nodes[index]!.ip = ip;
  scene.lab.operator = { ...cp1!, name: "operator" };
  await followPlan(scene, { bash, parts: [6] });
  const lines = readPlan(page).flatMap(({ part, lines }) => (part === 6 ? lines : []));
  expect(scene.steps.slice(1).map(({ ok, exitCode }) => [ok, exitCode])).toEqual(lines.map(() => [true, 0]));
  const packed = scene.steps.find(({ command }) => command.includes("--generate"))!;
  expect([packed.node, packed.command, scene.leaks]).toEqual([
    "cp1",
    "./bunw scripts/hand-over.ts pack --generate --out /root/keys.age",
    [],
  ]);
  expect(packed.stderr).not.toContain("7d1f-7d1f");
});
