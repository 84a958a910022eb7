/**
 * plan --user NAME: the lines of an operator who logs in as somebody else than root and has sudo. They run,
 * on pretend nodes.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { healthyCp, write } from "../pretend/cluster.ts";
import { expectTranscript } from "../pretend/node.ts";
import { nodesBySsh } from "../pretend/nodes-by-ssh.ts";
import { ASKED, pasted, plan } from "../pretend/plan.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const [M1, M2, M3, W1, W2] = [
  "127.77.0.11",
  "127.77.0.12",
  "127.77.0.13",
  "10.77.0.21",
  "10.77.0.22",
] as const;
const KIT = "/run/kube-pki-repair";

/** The lines for the operator's machine, with what a word of theirs names. */
function yours(stdout: string, words: RegExp): string {
  return pasted(stdout)
    .filter(
      (line) =>
        /^(?:set -o pipefail; )?(?:d=\$\(mktemp -d [^)]+\) && )?(?:ssh|scp) /.test(line) && words.test(line),
    )
    .map((line) => line.replace("'find ", "'cd /root && find "))
    .join("\n");
}
const END = "\n## 6 ";

test("a plan for a user who has sudo: each line is that user's", async () => {
  const printed = await plan({ ...ASKED, args: "--user ubuntu" });
  await expectTranscript("plan-user", printed);
  expect(printed.stdout).not.toMatch(/root@|scp /);
});

async function withFiles(nodes: Awaited<ReturnType<typeof nodesBySsh>>) {
  const there = (line: string) => `ssh -n ubuntu@${M1} "sudo -n sh -c 'cd ${KIT} && ./bunw scripts/${line}'"`;
  const lines = [there("hand-over.ts pack x"), there("03-workers.ts open")].join("\n");
  await nodes.bringKit([M1, M2, M3, W1, W2].join(" "));
  expect(await nodes.paste(lines)).toMatchObject({ exitCode: 0, stderr: "" });
  writeFileSync(`${nodes.folder(M1)}${KIT}/passphrase`, "a word\n", { mode: 0o600 });
}

test("lines that carry run: all is done by sudo, secrets stay 0600, and each arrives in one piece", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu --lost m2" });
  using nodes = await nodesBySsh(M1);
  await withFiles(nodes);
  const { exitCode, stderr, calls } = await nodes.paste(yours(stdout, /-cf - (?:token|shared-keys\.age)/));
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(calls.filter((call) => call === "sudo")).toHaveLength(
    calls.filter((call) => call === "ssh ubuntu").length,
  );
  for (const [node, file, content] of [
    [W1, "token", "token-of-w1\n"],
    [W2, "token", "token-of-w2\n"],
    [M3, "shared-keys.age", "a-bundle\n"],
    [M3, "passphrase", "a word\n"],
  ] as const) {
    const path = `${nodes.folder(node)}${KIT}/${file}`;
    expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).toEqual([content, 0o600]);
  }
});

test("each node's transcripts come to the first one, and the report to the operator's home", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  using nodes = await nodesBySsh(M1);
  await withFiles(nodes);
  for (const ip of [M2, M3, W1, W2])
    write(`${nodes.folder(ip)}/root/kube-pki-repair-20260101T000000/runs/x.txt`, "it said this\n");
  const gather = yours(stdout, /logs\.d/).replaceAll("-c 'umask", `-c 'cd ${KIT} && umask`);
  expect(gather.split("\n")).toHaveLength(4);
  expect(await nodes.paste(gather.replaceAll("umask 077 &&", `cd ${KIT} && umask 077 &&`))).toMatchObject({
    exitCode: 0,
    stderr: "",
  });
  const listed = Bun.spawnSync(["tar", "-tf", `${nodes.folder(M1)}${KIT}/logs.d/w1.tar`]).stdout.toString();
  expect(listed).toBe("./kube-pki-repair-20260101T000000/runs/x.txt\n");
  write(`${nodes.folder(M1)}${KIT}/report.html`, "a page\n");
  expect(await nodes.paste(yours(stdout, /report\.html/))).toMatchObject({ exitCode: 0, stderr: "" });
  expect(readFileSync(nodes.brought("report.html"), "utf8")).toBe("a page\n");
});

test("the end of the plan stands in its order: backup, its mark, report, removal, proof, kit", async () => {
  const { stdout } = await plan({});
  const end = [...stdout.split(END)[1]!.matchAll(/^### \[ \] \d[a-z]: (.+), (?:on|to) /gm)].map(
    ([, does]) => does,
  );
  expect(end).toEqual([
    "Make the backup of the keys",
    "Copy keys.age",
    "Remove the backup from the node",
    "Bring the other nodes' transcripts",
    "Write the report",
    "Copy report.html",
    "Remove what the repair has saved",
    "Verify once more: only your own tasks are left to warn of",
    "Remove the kit, with every passphrase, token and bundle in it",
  ]);
  expect(stdout).toMatch(
    /^# on m1:\n\.\/bunw scripts\/hand-over\.ts pack --generate --out \/root\/keys\.age$/m,
  );
});

test("a file that is not there is carried nowhere, and the line fails", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  using nodes = await nodesBySsh(M1);
  await nodes.bringKit([M1, W1].join(" "));
  const [carry] = yours(stdout, /-cf - token/).split("\n");
  const { exitCode, stderr } = await nodes.paste(carry!);
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining("token.d/w1: Cannot open: No such file or directory"),
  ]);
  expect(existsSync(`${nodes.folder(W1)}${KIT}/token`)).toBe(false);
});

test("what was said once is kept; whose lines they are is in the commands that print the plan again, and a plan elsewhere is told all", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2 --user ubuntu" });
  expect(stdout).toContain("\n./bunw scripts/plan.ts --deep --image FILE --user ubuntu\n");
  expect(stdout).toMatch(
    /print the plan there, and follow that one\.\n\n```sh\n# on m3:\n\.\/bunw scripts\/plan\.ts --lost m2 --user ubuntu\n/,
  );
});

test("a lost file of another control plane node comes through the machine that reaches both", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  expect(stdout).toContain(
    `\n> These files are usually the same on m2, m3. Copy them from there\n\n\`\`\`sh\n# on your machine:\nset -o pipefail; ssh -n ubuntu@${M2} "sudo -n sh -c 'tar -C /etc/kubernetes/audit -cf - policy.yaml'" | ssh ubuntu@${M1} "sudo -n sh -c 'tar -C /etc/kubernetes/audit -xpkf - policy.yaml'"\n\`\`\`\n`,
  );
});

test("root is the default", async () => {
  const [asRoot, usual] = await Promise.all([plan({ args: "--user root" }), plan({})]);
  expect(pasted(asRoot.stdout)).toEqual(pasted(usual.stdout));
});
