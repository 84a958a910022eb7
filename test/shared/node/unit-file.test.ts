/** A unit's command as systemd would make it. */
import { expect, test } from "bun:test";
import { flagsOf, readUnit } from "../../../shared/node/unit-file.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test.each<[what: string, unit: string, command: string[]]>([
  ["a line that goes on", "ExecStart=/a \\\n\t--b=c \\\n\t--d\n", ["/a", "--b=c", "--d"]],
  ["the last ExecStart=", "ExecStart=/a\nExecStart=\nExecStart=/b --c\n", ["/b", "--c"]],
  [
    "a variable of several words, and one inside a word",
    `Environment="A=--b --c" D=e\nExecStart=/x $A --f=$\{D} $NONE\n`,
    ["/x", "--b", "--c", "--f=e"],
  ],
  [
    "a file's variable, which comes last",
    "EnvironmentFile=/etc/x.env\nEnvironment=A=--early\nExecStart=/x $A\n",
    ["/x", "--late", "--spaced=a b"],
  ],
  ["files that a drop-in takes back", "EnvironmentFile=/etc/x.env\nEnvironmentFile=\nExecStart=/x $A\n", ["/x"]],
  ["comments", "# ExecStart=/no\n; ExecStart=/no\nExecStart=/x\n", ["/x"]],
  ["quotes", `ExecStart=/x "--a=b c" '--d' --e="f g"\n`, ["/x", "--a=b c", "--d", "--e=f g"]],
])("readUnit() knows %s", (_, unit, command) => {
  using box = sandbox();
  write(`${box.dir}/etc/x.env`, `# a comment\nA="--late '--spaced=a b'"\n`);
  expect(readUnit(`[Service]\n${unit}`).command).toEqual(command);
});

test("readUnit() says which files are there, and which may be missing", () => {
  using box = sandbox();
  write(`${box.dir}/etc/here`, "");
  const { files } = readUnit("EnvironmentFile=-/etc/gone\nEnvironmentFile=/etc/here\nEnvironmentFile=-/etc/*.env\n");
  expect(files).toEqual([
    { path: "/etc/gone", optional: true, isHere: false },
    { path: "/etc/here", optional: false, isHere: true },
    { path: "/etc/*.env", optional: true, isHere: true },
  ]);
});

test("flagsOf() takes a value behind = or behind a space, and the last one of a name", () => {
  expect([...flagsOf(["/x", "--a=b=c", "--d", "e", "--f", "--a=g", "--h"])]).toEqual([
    ["a", "g"],
    ["d", "e"],
    ["f", "true"],
    ["h", "true"],
  ]);
});
