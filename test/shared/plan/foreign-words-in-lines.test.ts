/**
 * A word of others in a printed line is one word in each shell that reads it: the operator's, and the one behind ssh. So root of a
 * worker, or who writes into an answer, types nothing on another machine (security-4, F7: a name was read again by the shell there).
 */
import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import type { Act } from "../../../shared/plan/act.ts";
import { differenceLine, folderTo, linesOfAct, printedAs } from "../../../shared/plan/by-hand.ts";
import type { Reached } from "../../../shared/plan/reached.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** As ssh: its options, the host, and all other words as one text for a shell. `sudo -n` runs as who it is. */
const SSH = `#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in -n) shift ;; -o) shift 2 ;; *) break ;; esac
done
shift
exec sh -c "$*"`;
const SUDO = `#!/bin/sh
shift
exec "$@"`;
const SCP = "#!/bin/sh\nexit 0";

/** Types `touch` without a blank. */
const TOUCH = `touch\${IFS}$OWNED`;

/** Words that a shell which reads them anew obeys. */
const WORDS = {
  "a command's end": `w1;${TOUCH};echo`,
  "a command in it": `w1$(${TOUCH})`,
  "the older form": `w1\`${TOUCH}\``,
  "a pipe": `w1|${TOUCH}|cat`,
  "single quotes": `w1';${TOUCH};'`,
  "double quotes": `w1";${TOUCH};"`,
  "both quotes": `w1'";${TOUCH};"'`,
  "a line's end": `w1\n${TOUCH}\n`,
  "a comment's end": `w1 #\n${TOUCH}\n#`,
};

type Nodes = Record<"from" | "to", Reached>;

function lines({ from, to }: Nodes, word: string): string[] {
  const acts: Act[] = [
    { do: "carry", from: from.name, to: [to.name], files: ["token.d/NODE/token"], secret: true },
    { do: "carry", from: from.name, to: [to.name], files: [`/etc/${word}`], secret: false },
    { do: "gather", from: [to.name], to: from.name, into: "logs.d" },
    { do: "fetch", from: from.name, file: `/root/${word}` },
    { do: "fetch", from: to.name, file: "report.html" },
    { do: "kit", to: [from.name, to.name] },
    { do: "kit", to: [to.name] },
    { do: "type", on: [to.name], command: "true", sideBySide: false },
  ];
  const reach = (name: string) => (name === from.name ? from : name === to.name ? to : undefined);
  const kitLine = "ssh root@NODE 'cat > /dev/null' < kit.tar.gz";
  return [
    ...acts.flatMap((act) => linesOfAct(act, { reach, kitLine }).map(({ text }) => text)),
    folderTo({ parent: "/root", seen: word }, from, to),
    differenceLine(`/etc/${word}`, from, { own: `/etc/${word}`, to }),
    printedAs(`/etc/${word}`, from, to, "true"),
  ];
}

const ROWS = Object.entries(WORDS).flatMap(([how, word]) => [
  [how, "root, to a worker", word, { user: "root", alias: word }] as const,
  [how, "ubuntu, to a control plane node", word, { user: "ubuntu" }] as const,
]);

test.each(ROWS)("F7: %s in names, addresses and files, by %s: no line types it", (_, __, word, how) => {
  using box = sandbox();
  const { dir } = box;
  for (const folder of ["bin", "kit"]) mkdirSync(`${dir}/${folder}`);
  for (const [name, text] of Object.entries({ ssh: SSH, sudo: SUDO, scp: SCP })) {
    writeFileSync(`${dir}/bin/${name}`, text);
    chmodSync(`${dir}/bin/${name}`, 0o755);
  }
  const kit = `${dir}/kit`;
  const from: Reached = { name: "cp1", address: "10.0.0.1", user: how.user, kit };
  const to: Reached = { name: word, address: word, kit, ...how };
  const env = { PATH: `${dir}/bin:${process.env.PATH}`, HOME: dir, OWNED: `${dir}/owned` };
  const type = (line: string) =>
    Bun.spawnSync(["bash", "-c", line], { cwd: dir, env, stdout: "ignore", stderr: "ignore" });
  // the runs of a repair lie in /root
  const all = lines({ from, to }, word).map((line) => line.replaceAll("/root", kit));
  expect(all.length).toBeGreaterThan(10);
  type(all.map((line) => `(${line}\n)`).join("\n"));
  if (!existsSync(env.OWNED)) return;
  for (const line of all) {
    Bun.spawnSync(["rm", "-f", env.OWNED]);
    type(line);
    expect({ line, owned: existsSync(env.OWNED) }).toEqual({ line, owned: false });
  }
});

test("such a word is typed where a line does not quote it", () => {
  using box = sandbox();
  const env = { PATH: process.env.PATH!, OWNED: `${box.dir}/owned` };
  for (const word of Object.values(WORDS).filter((one) => !/^w1['"]/.test(one))) {
    Bun.spawnSync(["bash", "-c", `echo ${word}`], { env, stdout: "ignore", stderr: "ignore" });
    expect([word, existsSync(env.OWNED)]).toEqual([word, true]);
    Bun.spawnSync(["rm", env.OWNED]);
  }
});
