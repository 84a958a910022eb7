/**
 * plan --user NAME: the lines of an operator who logs in as somebody else than root and has sudo. They run,
 * on pretend nodes.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { healthyCp, type Objects, write } from "../pretend/cluster.ts";
import { expectTranscript } from "../pretend/node.ts";
import { nodesBySsh } from "../pretend/nodes-by-ssh.ts";
import { ASKED, pasted, plan, setAddress } from "../pretend/plan.ts";

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

/** What is pasted, step by step; not the notes. `END`: what comes after the proof. */
const END = "\n## 6 ";
function steps(stdout: string, part = stdout.split(END)[0]!): string[] {
  return [...part.matchAll(/^### .*\n```sh\n([\s\S]*?)\n```/gm)].map(([, lines]) => lines!);
}

test("a plan for a user who has sudo: each line is that user's", async () => {
  const printed = await plan({ ...ASKED, args: "--user ubuntu" });
  await expectTranscript("plan-user", printed);
  expect(printed.stdout).not.toMatch(/root@|scp /);
});

test("its lines run: all is done by sudo, secrets stay 0600, and each line arrives in one piece", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu --lost m2" });
  using nodes = await nodesBySsh(M1);
  const { exitCode, stderr, calls } = await nodes.paste(steps(stdout).join("\n"));
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(calls.filter((call) => call.startsWith("ssh") && call !== "ssh ubuntu")).toEqual([]);
  // m3, w1 and w2 are met before they get the kit, and by their names before they get a secret
  expect(calls.filter((call) => call === "sudo")).toHaveLength(
    calls.filter((call) => call === "ssh ubuntu").length - 6,
  );
  expect(calls).toContain(`${M3}: pgrep -x kube-controller`);
  expect(calls).toContain(`${M1}: bunw scripts/01-etcd.ts --new-cas --lost-on m2`);
  expect(calls).toContain(`${M3}: bunw scripts/hand-over.ts unpack y`);
  expect(calls).toContain(`${W2}: bunw scripts/03-join.ts --server x`);
  expect(calls).toContain(
    `${M1}: kubectl --kubeconfig ${nodes.folder(M1)}/etc/kubernetes/admin.conf delete node --ignore-not-found m2`,
  );
  expect(existsSync(nodes.folder(M2))).toBe(false);
  for (const [node, file, content] of [
    [W1, "token", "token-of-w1\n"],
    [W2, "token", "token-of-w2\n"],
    [M3, "shared-keys.age", "a-bundle\n"],
    [M3, "passphrase", readFileSync(`${nodes.folder(M1)}${KIT}/passphrase`, "utf8")],
  ] as const) {
    const path = `${nodes.folder(node)}${KIT}/${file}`;
    expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).toEqual([content, 0o600]);
  }
  expect(statSync(`${nodes.folder(W1)}${KIT}`).mode & 0o777).toBe(0o700);
});

test("the end of the road runs: each node's transcripts, page and backup here, the mark there, and nothing is left on a node", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  using nodes = await nodesBySsh(M1);
  const kept = [M1, M2, M3, W1, W2].map(
    (ip) => `${nodes.folder(ip)}/root/kube-pki-repair-20260101T000000/runs/x.txt`,
  );
  for (const path of kept) write(path, "it said this\n");
  await nodes.paste(steps(stdout)[1]!);
  const end = steps(stdout, stdout.split(END)[1]);
  const removal = end.findIndex((lines) => lines.includes("rm -rf /root/"));
  const first = await nodes.paste(end.slice(0, removal).join("\n"));
  expect(first).toMatchObject({ exitCode: 0, stderr: "" });
  expect(readFileSync(nodes.brought("report.html"), "utf8")).toBe("m2.tar\nm3.tar\nw1.tar\nw2.tar\n");
  expect(readFileSync(nodes.brought("keys.age"), "utf8")).toBe("a-backup\n");
  for (const ip of [M2, M3])
    expect(readFileSync(`${nodes.folder(ip)}/etc/kubernetes/.kube-pki-repair-backup`, "utf8")).toBe(
      "a-mark\n",
    );
  const listed = Bun.spawnSync(["tar", "-tf", `${nodes.folder(M1)}${KIT}/logs.d/w1.tar`]).stdout.toString();
  expect(listed).toBe("./kube-pki-repair-20260101T000000/runs/x.txt\n");
  expect(kept.every((path) => existsSync(path))).toBe(true);

  const { exitCode, stderr, calls } = await nodes.paste(end.slice(removal).join("\n"));
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(calls.filter((call) => call.endsWith("05-verify.ts"))).toEqual(
    [M1, M2, M3].map((ip) => `${ip}: bunw scripts/05-verify.ts`),
  );
  for (const ip of [M1, M2, M3, W1, W2]) {
    expect(readdirSync(`${nodes.folder(ip)}/root`)).toEqual([]);
    expect(existsSync(`${nodes.folder(ip)}${KIT}`)).toBe(false);
  }
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
    /^ssh -t root@\S+ 'cd \S+ && \.\/bunw scripts\/hand-over\.ts pack --generate --out \/root\/keys\.age'$/m,
  );
});

test("a file that is not there is carried nowhere, and the line fails", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  const [carry] = /^.* token .*$/m.exec(steps(stdout).join("\n"))!;
  using nodes = await nodesBySsh(M1);
  await nodes.paste(steps(stdout)[1]!);
  const { exitCode, stderr } = await nodes.paste(carry);
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining("token.d/w1: Cannot open: No such file or directory"),
  ]);
  expect(existsSync(`${nodes.folder(W1)}${KIT}/bunw`)).toBe(true);
  expect(existsSync(`${nodes.folder(W1)}${KIT}/token`)).toBe(false);
});

test("with many workers, xargs does the same", async () => {
  const { stdout } = await plan({
    etcd(objects: Objects) {
      for (let i = 1; i <= 30; i++) {
        objects[`minions/w${i}`] = JSON.parse(
          JSON.stringify(objects["minions/w1"]).replaceAll('"w1"', `"w${i}"`),
        );
        setAddress(objects, `w${i}`, `10.78.0.${i}`);
      }
    },
    args: "--user ec2-user",
  });
  using nodes = await nodesBySsh(M1);
  const { exitCode, stderr, calls } = await nodes.paste(steps(stdout).join("\n"));
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  for (let i = 1; i <= 30; i++) {
    expect(calls).toContain(`10.78.0.${i}: bunw scripts/03-join.ts --server x`);
    expect(readFileSync(`${nodes.folder(`10.78.0.${i}`)}${KIT}/token`, "utf8")).toBe(`token-of-w${i}\n`);
    expect(statSync(`${nodes.folder(`10.78.0.${i}`)}${KIT}/token`).mode & 0o777).toBe(0o600);
  }
  expect(calls).not.toContain("ssh root");
  const gather = steps(stdout, stdout.split(END)[1]).find((lines) => lines.includes("logs.d"));
  // in another window
  expect(await nodes.paste(gather!)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("paste workers=… of step 0b here"),
  });
  const [list] = /^workers='[^']*'$/m.exec(stdout)!;
  expect(await nodes.paste(`${list}\n${gather}`)).toMatchObject({ exitCode: 0, stderr: "" });
  const brought = readdirSync(`${nodes.folder(M1)}${KIT}/logs.d`);
  expect(brought.toSorted()).toEqual(Array.from({ length: 30 }, (_, i) => `w${i + 1}.tar`).toSorted());
});

test("what was said once is kept; whose lines they are is in the commands that print the plan again, and a plan elsewhere is told all", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2 --user ubuntu" });
  expect(stdout).toContain(" && ./bunw scripts/plan.ts --deep --image FILE --user ubuntu'\"; echo");
  expect(stdout).toMatch(
    /print the plan there, and follow that one\.\n\n```sh\nssh -n ubuntu@127\.77\.0\.13 .* && \.\/bunw scripts\/plan\.ts --lost m2 --user ubuntu'"/,
  );
});

test("a lost file of another control plane node comes through the machine that reaches both", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  expect(stdout).toContain(
    `\n> m2, m3: mostly the same there\n\n\`\`\`sh\n(set -o pipefail; ssh -n ubuntu@${M2} sudo -n tar -C / -cf - etc/kubernetes/audit/policy.yaml | ssh ubuntu@${M1} sudo -n tar -C / -xpkf - etc/kubernetes/audit/policy.yaml)\n\`\`\`\n`,
  );
});

test("root is the default", async () => {
  const [asRoot, usual] = await Promise.all([plan({ args: "--user root" }), plan({})]);
  expect(pasted(asRoot.stdout)).toEqual(pasted(usual.stdout));
});
