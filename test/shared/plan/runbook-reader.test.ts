import { expect, test } from "bun:test";
import { readRunbook } from "../../../shared/plan/runbook.ts";

const { parts, blocks } = readRunbook(
  await Bun.file(`${import.meta.dir}/../../fixtures/RUNBOOK-example.md`).text(),
);

test("readRunbook() finds parts and steps, and none inside a fence", () => {
  expect(parts.map(({ number, title, steps }) => ({ number, title, steps }))).toEqual([
    { number: 0, title: "Assess", steps: ["0.1 Report the damage"] },
    { number: 3, title: "Workers", steps: ["3.1 Open the door", "3.2 Join"] },
  ]);
});

test("readRunbook() knows where each command is typed", () => {
  expect(blocks.map(({ part, on, commands }) => [part, on, ...commands])).toEqual([
    [undefined, "each-node", "mkdir -p /dev/shm/kit"],
    [0, "first-control-plane", "./bunw scripts/00-assess.ts"],
    [3, "first-control-plane", "./bunw scripts/03-workers.ts open"],
    [3, undefined, "scp token w1:/dev/shm/kit/"],
    [3, "each-worker", "./bunw scripts/03-join.ts --server https://… --token-file token"],
    [undefined, undefined, "echo for the reader"],
  ]);
  expect(blocks[1]!.exit).toEqual([0, 2]);
  expect(blocks[2]!.if).toEqual(["new-cas"]);
  expect(blocks[3]!.carry).toEqual({ file: "token", from: "first-control-plane", to: "each-worker" });
});

test("readRunbook() refuses a place it does not know, and names the line", () => {
  expect(() => readRunbook("# R\n\n```sh on=the-moon\nls\n```\n")).toThrow(
    'line 3: "the-moon" is not a place',
  );
  expect(() => readRunbook("```sh onn=first-control-plane\nls\n```\n")).toThrow(
    '"onn=first-control-plane" is not known',
  );
  expect(() => readRunbook("```sh on=first-control-plane\nls\n")).toThrow("never closed");
});

test("readRunbook() takes how a command ends from the output below it, in its own section alone", () => {
  const fence = (info: string, line: string) => `\`\`\`${info}\n${line}\n\`\`\`\n`;
  const page = [
    `## 1 One\n\n${fence("sh task=end-etcd", "./bunw scripts/01-etcd.ts")}`,
    `## 2 Two\n\n${fence("sh task=new-cas", "./bunw scripts/01-etcd.ts --new-cas")}`,
    `${fence("sh task=old-cas", "./bunw scripts/01-etcd.ts")}\nIt prints:\n`,
    fence("text", "== 1.1 Look\ndone.  next: part 2"),
  ];
  expect(readRunbook(page.join("\n")).blocks.map(({ ends }) => ends)).toEqual([
    undefined,
    "done.  next: part 2",
    "done.  next: part 2",
  ]);
});
