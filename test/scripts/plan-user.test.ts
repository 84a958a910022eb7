/** plan --user NAME: the lines of an operator who logs in as somebody else than root and has sudo. They run, on pretend nodes. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { healthyCp, type Objects } from "../pretend/cluster.ts";
import { expectTranscript } from "../pretend/node.ts";
import { nodesBySsh } from "../pretend/nodes-by-ssh.ts";
import { ASKED, pasted, plan, setAddress } from "../pretend/plan.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const [M1, M2, M3, W1, W2] = ["127.77.0.11", "127.77.0.12", "127.77.0.13", "10.77.0.21", "10.77.0.22"] as const;
const KIT = "/run/kube-pki-repair";

/** What is pasted, step by step; not the notes. */
function steps(stdout: string): string[] {
  return [...stdout.matchAll(/^### .*\n\n```sh\n([\s\S]*?)\n```/gm)].map(([, lines]) => lines!);
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
  expect(calls.filter((call) => call === "sudo")).toHaveLength(calls.filter((call) => call === "ssh ubuntu").length);
  expect(calls).toContain(`${M3}: pgrep -x kube-controller`);
  expect(calls).toContain(`${M1}: bunw scripts/01-etcd.ts --new-cas`);
  expect(calls).toContain(`${M3}: bunw scripts/hand-over.ts unpack y`);
  expect(calls).toContain(`${W2}: bunw scripts/03-join.ts --server x`);
  expect(calls).toContain(`${M1}: kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found m2`);
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

test("a file that is not there is carried nowhere, and the line fails", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  const [carry] = /^.* token .*$/m.exec(steps(stdout).join("\n"))!;
  using nodes = await nodesBySsh(M1);
  await nodes.paste(steps(stdout)[1]!);
  const { exitCode, stderr } = await nodes.paste(carry);
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("token.d/w1: Cannot open: No such file or directory")]);
  expect(existsSync(`${nodes.folder(W1)}${KIT}/bunw`)).toBe(true);
  expect(existsSync(`${nodes.folder(W1)}${KIT}/token`)).toBe(false);
});

test("with many workers, xargs does the same", async () => {
  const { stdout } = await plan({
    etcd(objects: Objects) {
      for (let i = 1; i <= 30; i++) {
        objects[`minions/w${i}`] = JSON.parse(JSON.stringify(objects["minions/w1"]).replaceAll('"w1"', `"w${i}"`));
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
});

test("what was said once is remembered: in the commands that print the plan again", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2 --user ubuntu" });
  expect(stdout).toContain("\n./bunw scripts/plan.ts --deep --lost m2 --user ubuntu\n");
  expect(stdout).toContain("print the plan there, and follow that one: ./bunw scripts/plan.ts --lost m2 --user ubuntu");
});

test("a lost file of another control plane node comes through the machine that reaches both", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--user ubuntu" });
  expect(stdout).toContain(
    `\n(set -o pipefail; ssh -n ubuntu@${M2} sudo -n tar -C / -cf - etc/kubernetes/audit/policy.yaml | ssh ubuntu@${M1} sudo -n tar -C / -xpkf -)   # m2, m3: mostly the same there; on your machine\n`,
  );
});

test("root is the default", async () => {
  const [asRoot, usual] = await Promise.all([plan({ args: "--user root" }), plan({})]);
  expect(pasted(asRoot.stdout)).toEqual(pasted(usual.stdout));
});
