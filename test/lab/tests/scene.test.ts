/** A runbook followed on pretend nodes, to see what is typed where. */
import { expect, test } from "bun:test";
import { pretendScene } from "../../pretend/scene.ts";
import { followRunbook } from "../scene/follow.ts";

const markdown = await Bun.file(`${import.meta.dir}/../../fixtures/RUNBOOK-example.md`).text();

const JOIN = "./bunw scripts/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d --token-file token";
const OPEN = "./bunw scripts/03-workers.ts open";

test("followRunbook() types each command where the runbook says, and the line that was printed as it was printed", async () => {
  const { scene, typed } = pretendScene({
    "./bunw scripts/00-assess.ts": { exitCode: 2 },
    [OPEN]: { stdout: `  ${JOIN}\n` },
    "base64 -w0 /run/kube-pki-repair/token": { stdout: "dG9rZW4=" },
  });
  await followRunbook(scene, ["new-cas"], { markdown });
  expect(typed).toEqual([
    "cp1: mkdir -p /dev/shm/kit",
    "cp2: mkdir -p /dev/shm/kit",
    "w1: mkdir -p /dev/shm/kit",
    "cp1: ./bunw scripts/00-assess.ts",
    `cp1: ${OPEN}`,
    "cp1: base64 -w0 /run/kube-pki-repair/token",
    "w1: umask 077; base64 -d > /run/kube-pki-repair/token < dG9rZW4=",
    `w1: ${JOIN}`,
  ]);
  expect(scene.steps.map(({ part, ok }) => [part, ok])).toEqual([
    [undefined, true],
    [undefined, true],
    [undefined, true],
    [0, true],
    [3, true],
    [3, true],
  ]);
});

test("followRunbook() stops at a failure, as an operator would", async () => {
  const { scene } = pretendScene({ "./bunw scripts/00-assess.ts": { exitCode: 1, stderr: "error: no\n" } });
  await followRunbook(scene, ["new-cas"], { markdown });
  expect(scene.steps.at(-1)).toMatchObject({
    command: "./bunw scripts/00-assess.ts",
    ok: false,
    hung: false,
    exitCode: 1,
  });
});

test("followRunbook() says before each command what is typed next, and where", async () => {
  const { scene, typed } = pretendScene({ "./bunw scripts/00-assess.ts": { exitCode: 1 } });
  const before: string[] = [];
  await followRunbook(scene, [], {
    markdown,
    before: async (command, { node }) => void before.push(`${node.name}: ${command}`),
  });
  expect(before.length).toBeGreaterThan(0);
  expect(before).toEqual(typed);
});

test("followRunbook() types nothing on a node that never comes back, and what takes it out", async () => {
  const { scene, typed } = pretendScene({});
  const fences = [
    ["each-control-plane", "./bunw scripts/02-control-plane.ts"],
    ["first-control-plane if=lost-nodes", "kubectl delete node NODE"],
  ];
  const page = fences.map(([on, command]) => `\`\`\`sh on=${on}\n${command}\n\`\`\`\n`).join("\n");
  await followRunbook(scene, [], { markdown: page, without: ["cp2"] });
  expect(typed).toEqual([
    "cp1: ./bunw scripts/02-control-plane.ts --lost cp2",
    "cp1: kubectl delete node cp2",
  ]);
  typed.length = 0;
  await followRunbook(scene, [], { markdown: page });
  expect(typed).toEqual([
    "cp1: ./bunw scripts/02-control-plane.ts",
    "cp2: ./bunw scripts/02-control-plane.ts",
  ]);
});

test("a secret in a transcript is counted, and not kept", async () => {
  const token = `${"a".repeat(6)}.${"b".repeat(16)}`;
  const { scene } = pretendScene({
    "./bunw scripts/00-assess.ts": { exitCode: 1, stderr: `token ${token}\n` },
  });
  await followRunbook(scene, [], { markdown });
  expect(scene.steps.at(-1)!.stderr).toBe("token <a bootstrap token>\n");
  expect(scene.leaks).toEqual(["a bootstrap token: ./bunw scripts/00-assess.ts on cp1"]);
});
