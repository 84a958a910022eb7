/** A number of `repair` that takes a file of the operator's own. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { homedir } from "node:os";
import { repairAll } from "../../../shared/follow/follow-plan.ts";
import { NO_PERSON } from "../../../shared/follow/person.ts";
import type { Session } from "../../../shared/follow/session.ts";
import { putLine } from "../../../shared/plan/whole-file.ts";
import { write } from "../../pretend/cluster.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../../pretend/follow.ts";
import { planOf } from "../../pretend/plan-answer-here.ts";
import { caught } from "../../pretend/quietly.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PATH = "/etc/kubernetes/enc/encryption.yaml";
const DOES = `I have ${PATH}: type its path on this machine, or that of a folder with your copies`;

setDefaultTimeout(300_000);

/** What m1 plans while the file is missing. */
const SEALED = {
  ...(await planOf("")),
  ...{ node: "m1", nodes: [], parts: [], damaged: true, aim: undefined },
  decisions: [
    {
      id: "lost-files",
      question: [`${PATH} is lost on m1, and nothing else there opens etcd's data.`],
      ways: [{ does: DOES, upload: { path: PATH, to: ["m1"] } }],
    },
  ],
};

async function follow(own: string | readonly string[], ways: readonly RegExp[]) {
  const transport = new PretendNodes((_node, line) =>
    line.includes("scripts/plan.ts --json") ? { stdout: JSON.stringify(SEALED), exitCode: 2 } : undefined,
  );
  const person = new PretendPerson(ways, ...[own].flat());
  const { session } = pretendSession({ transport, person });
  const { value, stdout, stderr } = await caught(() => repairAll(session));
  return { end: value, transport, person, screen: `${stdout}${stderr}` };
}

test("the file gets into its place on the node that lacks it, and the node is looked at again", async () => {
  using box = sandbox();
  write(`${box.dir}/own.yaml`, "kind: EncryptionConfiguration\n");
  let asked = 0;
  const once = { test: (way: string) => way.startsWith("I have") && asked++ === 0 } as RegExp;
  const { transport, person, screen } = await follow("/own.yaml", [once, /^End here/]);
  expect(transport.sent.get("m1")).toBe("kind: EncryptionConfiguration\n");
  expect(transport.calls).toContain(`m1: ${putLine({ path: PATH, size: 30, aside: false })}`);
  expect(screen).toContain(`wrote ${PATH} on m1: 30 bytes`);
  expect(person.asked.filter((text) => text.includes(DOES))).toHaveLength(2);
});

test("a path that is none is said, and asked again at once", async () => {
  using box = sandbox();
  write(`${box.dir}/own.yaml`, "kind: EncryptionConfiguration\n");
  let asked = 0;
  const once = { test: (way: string) => way.startsWith("I have") && asked++ === 0 } as RegExp;
  const { transport, person, screen } = await follow(["/nowhere/own.yaml", "/own.yaml"], [once, /^End here/]);
  expect(screen).toContain('There is no file "/nowhere/own.yaml"');
  expect(transport.sent.get("m1")).toBe("kind: EncryptionConfiguration\n");
  expect(person.asked.filter((text) => text.startsWith(`The path of ${PATH} `))).toHaveLength(2);
  expect(person.asked.filter((text) => text.includes(DOES))).toHaveLength(2);
});

test("Enter alone goes back to the decision, without another look", async () => {
  let asked = 0;
  const once = { test: (way: string) => way.startsWith("I have") && asked++ === 0 } as RegExp;
  const { transport, person } = await follow("/nowhere/own.yaml", [once, /^End here/]);
  expect(transport.sent.get("m1")).toBeUndefined();
  expect(person.asked.map((text) => text.split(" ")[0])).toEqual(["Decision", "The", "The", "Decision"]);
  expect(transport.calls.filter((call) => call.includes("plan.ts --json"))).toHaveLength(1);
});

test("~ is the operator's home", async () => {
  using box = sandbox();
  write(`${box.dir}${homedir()}/own.yaml`, "kind: EncryptionConfiguration\n");
  let asked = 0;
  const once = { test: (way: string) => way.startsWith("I have") && asked++ === 0 } as RegExp;
  const { transport } = await follow("~/own.yaml", [once, /^End here/]);
  expect(transport.sent.get("m1")).toBe("kind: EncryptionConfiguration\n");
});

const AUDIT = "/etc/kubernetes/audit/policy.yaml";
const WEBHOOKS = "/etc/kubernetes/webhooks";

/** Three lost things on m1, which has answered so; the last one is a folder. */
const THREE_LOST = {
  ...SEALED,
  decisions: [PATH, AUDIT, WEBHOOKS].map((path) => ({
    id: "lost-files",
    question: [`${path} is lost on m1.`],
    ways: [{ does: `I have ${path}`, upload: { path, to: ["m1"] } }],
  })),
};

/** The operator's copies: of /etc/kubernetes, without a name of the lost files that a node may choose. */
function copies(dir: string) {
  for (const [name, text] of Object.entries({
    "enc/encryption.yaml": "enc\n",
    "audit/policy.yaml": "audit\n",
    "webhooks/a.yaml": "a\n",
    "webhooks/deep/b.yaml": "b\n",
    "pki/ca.key": "nobody has asked for it\n",
  }))
    write(`${dir}/${name}`, text);
}

async function followLost(more: Partial<Session>, own: string | undefined, ways: readonly RegExp[]) {
  const transport = new PretendNodes((_node, line) =>
    line.includes("scripts/plan.ts --json") ? { stdout: JSON.stringify(THREE_LOST), exitCode: 2 } : undefined,
  );
  const person = own === undefined ? NO_PERSON : new PretendPerson(ways, own);
  const { session } = pretendSession({ transport, person, more });
  const { value, stdout, stderr } = await caught(() => repairAll(session));
  const lines = transport.calls.filter((call) => call.includes("ln -T"));
  const puts = lines.map((call) => call.split(" ").at(-1)!);
  const modes = lines.map((call) => / chmod (\d+) /.exec(call)?.[1] ?? "600");
  return { end: value, puts, modes, screen: `${stdout}${stderr}` };
}

const ALL = [PATH, AUDIT, `${WEBHOOKS}/a.yaml`, `${WEBHOOKS}/deep/b.yaml`];

test("a folder that the operator names brings all lost files that it has, once, and nothing else", async () => {
  using box = sandbox();
  copies(`${box.dir}/own`);
  let asked = 0;
  const once = { test: (way: string) => way.startsWith("I have") && asked++ === 0 } as RegExp;
  write(`${box.dir}/own/webhooks/deep/b.yaml`, `token: ${"a1B2".repeat(8)}\n`);
  for (const name of ["audit/policy.yaml", "webhooks/deep/b.yaml"])
    chmodSync(`${box.dir}/own/${name}`, 0o644);
  const { puts, modes } = await followLost({}, "/own", [once, /^End here/]);
  expect(puts).toEqual(ALL);
  // the last one has a token
  expect(modes).toEqual(["600", "644", "600", "600"]);
});

test("without a terminal --files brings them; what the folder does not have is named with the option, and the end is 3", async () => {
  using box = sandbox();
  copies(`${box.dir}/own`);
  rmSync(`${box.dir}/own/audit`, { recursive: true });
  const { end, puts, screen } = await followLost({ ownFiles: "/own" }, undefined, []);
  expect(puts).toEqual(ALL.filter((path) => path !== AUDIT));
  expect(screen).toContain(`"/own" has no copy of ${AUDIT}`);
  expect(screen).toContain(`--files DIR: take ${AUDIT} from your copies in this folder of your machine`);
  expect(end).toBe(3);
});

test("a link out of the folder brings nothing", async () => {
  using box = sandbox();
  write(`${box.dir}/own/x`, "");
  write(`${box.dir}/secret`, "a secret of this machine\n");
  mkdirSync(`${box.dir}/own/audit`);
  symlinkSync("/secret", `${box.dir}/own/audit/policy.yaml`);
  const { puts, screen } = await followLost({ ownFiles: "/own" }, undefined, []);
  expect(puts).toEqual([]);
  expect(screen).toContain("left out: it leads out of");
});

function put(path: string, text: string, { aside = false, size = text.length } = {}) {
  const line = putLine({ path, size, aside });
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-c", line], { stdin: Buffer.from(text) });
  return { exitCode, stderr: stderr.toString() };
}

test("one that does not fit moves aside, and none that moved aside is lost", () => {
  using box = sandbox();
  const path = `${box.dir}/enc/encryption.yaml`;
  for (const text of ["first", "second", "third"])
    expect(put(path, text, { aside: true })).toEqual({ exitCode: 0, stderr: "" });
  expect(readFileSync(path, "utf8")).toBe("third");
  expect(readFileSync(`${path}.before`, "utf8")).toBe("second");
  expect(readFileSync(`${path}.before.~1~`, "utf8")).toBe("first");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(`${box.dir}/enc`)).toHaveLength(3);
});

test("a mode is the file's from its first moment in its place", () => {
  using box = sandbox();
  const path = `${box.dir}/policy.yaml`;
  const line = putLine({ path, size: 4, aside: false, mode: 0o644 });
  expect(Bun.spawnSync(["sh", "-c", line], { stdin: Buffer.from("text") }).exitCode).toBe(0);
  expect(statSync(path).mode & 0o777).toBe(0o644);
});

test("a file that came cut off is none, and one that is there stays", () => {
  using box = sandbox();
  const path = `${box.dir}/enc/encryption.yaml`;
  expect(put(path, "half", { size: 8 })).toEqual({ exitCode: 1, stderr: "the file came cut off\n" });
  expect(readdirSync(`${box.dir}/enc`)).toEqual([]);
  expect(put(path, "whole").exitCode).toBe(0);
  const { exitCode, stderr } = put(path, "other");
  expect([exitCode, readFileSync(path, "utf8")]).toEqual([1, "whole"]);
  expect(stderr).toContain("File exists");
  expect(readdirSync(`${box.dir}/enc`)).toEqual(["encryption.yaml"]);
});
