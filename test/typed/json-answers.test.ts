/**
 * The answers for programs: each script with `--json` prints one document on stdout, also if it refuses or fails, and
 * scripts/answers.schema.json describes it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import schema from "../../scripts/answers.schema.json" with { type: "json" };
import { SEVERITIES } from "../../shared/checks/kinds.ts";
import { ANSWER_SCHEMA } from "../../shared/json-answer.ts";
import { lineRead } from "../../shared/options.ts";
import { clusterObjects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { longLives } from "../pretend/long-lives.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { nodeInState, STATES, type StateName } from "../pretend/screen-states.ts";
import { here, typeHere } from "../pretend/typed-here.ts";
import { snapshotOf } from "../pretend/write-db.ts";
import { SCRIPTS } from "../repo/help.ts";
import { faultsBy, find } from "../repo/json-schema.ts";

setDefaultTimeout(300_000);

interface Answered {
  exitCode: number;
  stdout: string;
}

type Json = Record<string, unknown> & { ended: string; exitCode?: number };

/** Errors: it is not one document of this name, or has a field that the schema does not describe. */
function judged(name: string, { stdout }: Answered): Json {
  const answer = JSON.parse(stdout) as Json;
  const own = find(schema, `#/$defs/${answer.ended === "ok" ? name : "stopped"}`);
  expect(faultsBy(schema, own, answer)).toEqual([]);
  expect(faultsBy(schema, schema, answer)).toEqual([]);
  return answer;
}

const fieldsOf = (name: string): string[] => {
  const { allOf = [], properties = {} } = find(schema, `#/$defs/${name}`) as Record<string, never>;
  const more = (allOf as { $ref: string }[]).flatMap(({ $ref }) => fieldsOf($ref.split("/").at(-1)!));
  return [...Object.keys(properties), ...more];
};

const NAMES = Object.keys(STATES) as StateName[];
const LOOKS = ["00-assess", "05-verify", "plan"];

test.each(NAMES.flatMap((state) => LOOKS.map((script) => [script, state] as const)))(
  "%s --json: %s",
  async (script, state) => {
    using node = here(await nodeInState(state));
    const said = await node.run(`${script} --json`);
    const answer = judged(script, said);
    if (answer.ended !== "ok") expect(answer.exitCode).toBe(said.exitCode);
    else expect(Object.keys(answer).filter((field) => !fieldsOf(script).includes(field))).toEqual([]);
  },
);

test.each(LOOKS.slice(0, 2))("%s --json: the date of each certificate is a field", async (script) => {
  using node = here(await nodeInState("expired"));
  const { checks } = judged(script, await node.run(`${script} --json`)) as unknown as {
    checks: { id: string; detail: string; notAfter?: string; severity?: string }[];
  };
  const withDate = checks.filter(({ detail }) => /until DATE|^expired/.test(detail));
  expect(withDate.length).toBeGreaterThan(2);
  expect(withDate.filter(({ notAfter }) => notAfter === undefined)).toEqual([]);
  const severities = new Set(checks.flatMap(({ severity }) => severity ?? []));
  expect([...severities].filter((word) => !Object.values<string>(SEVERITIES).includes(word))).toEqual([]);
});

async function healthy() {
  const node = here(await pretendNode({ kind: "healthy control plane node", etcd: longLives }));
  const servers = [serveEtcd(node.root, sameEtcd(node.stored)), servePart2(node)];
  return Object.assign(node, {
    end: () => [...servers, node].forEach((one) => void one[Symbol.dispose]()),
  });
}

test("renew-ca --dry-run --json has the dates before and after; words --json what is saved; drill --json its files", async () => {
  const node = await healthy();
  try {
    const renewed = judged("renew-ca", await node.run("renew-ca --dry-run --json"));
    expect(renewed).toMatchObject({ ended: "ok", isDryRun: true });
    expect((renewed.renewals as { changes: boolean }[]).map(({ changes }) => changes)).toEqual([
      true,
      true,
      true,
    ]);
    expect(judged("words", await node.run("words --json"))).toMatchObject({ ended: "ok", words: [] });
    expect(judged("drill", await node.run("drill --json"))).toMatchObject({ ended: "ok" });
  } finally {
    node.end();
  }
});

test("restore --dry-run --json has what comes back, and when it is from", async () => {
  using node = here(await pretendNode({ kind: "no node" }));
  const puts = Object.entries(clusterObjects(node.ca.cert)).map(
    ([key, object]) => [`/registry/${key}`, JSON.stringify(object)] as [string, string],
  );
  writeFileSync(`${node.root}/root/snapshot.db`, snapshotOf({ members: [MEMBER], puts }));
  const { exitCode, stdout } = await node.run("restore snapshot.db --as m1 --dry-run --json");
  expect(exitCode).toBe(0);
  expect(judged("restore", { exitCode, stdout })).toMatchObject({
    ...{ ended: "ok", isDryRun: true, from: "a snapshot", isExact: false, node: "m1" },
    keys: puts.length,
  });
});

test("hand-over list --json names each key by its hash, and has none", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  writeFileSync(`${node.root}/root/passphrase`, "a passphrase of this test alone\n", { mode: 0o600 });
  const [packed, listed] = ["pack --out keys.age", "list keys.age --json"].map(
    (line) => `hand-over ${line} --passphrase-file passphrase`,
  );
  expect((await node.run(packed!)).exitCode).toBe(0);
  const said = await node.run(listed!);
  const { keys, cluster } = judged("hand-over", said) as unknown as {
    keys: { name: string; notAfter?: string }[];
    cluster: string;
  };
  expect(keys.map(({ name, notAfter }) => [name, notAfter !== undefined])).toEqual([
    ["ca", true],
    ["front-proxy-ca", true],
    ["etcd/ca", true],
    ["sa", false],
  ]);
  expect(cluster).toBe("kubernetes");
  expect(said.stdout).not.toContain("PRIVATE KEY");
});

const withJson: string[] = [];
for (const script of SCRIPTS.map((path) => basename(path, ".ts"))) {
  await typeHere(`${script} --help`);
  if (Object.hasOwn(lineRead()?.options ?? {}, "json")) withJson.push(script);
}

test("the scripts that answer have --json", () => {
  expect(withJson).toEqual([
    ...["00-assess", "05-verify", "drill", "hand-over", "plan", "renew-ca", "restore", "words"],
  ]);
});

/** Scripts that need a word before they look. */
const LINES: Record<string, string> = {
  "hand-over": "hand-over list keys.age",
  restore: "restore snapshot.db --as m1 --dry-run",
};

test.each(withJson)(
  "%s --json on a machine that is no node, and on a line with a wrong word",
  async (script) => {
    for (const [line, codes] of [
      [`${LINES[script] ?? script} --json`, [0, 1, 3]],
      [`${LINES[script] ?? script} --json --nonsense`, [64]],
    ] as const) {
      const said = await typeHere(line);
      const answer = judged(script, said);
      expect(codes as readonly number[]).toContain(said.exitCode);
      if (said.exitCode !== 0) {
        expect(answer).toMatchObject({ schemaVersion: ANSWER_SCHEMA, exitCode: said.exitCode });
        expect(answer.ended).toBe(said.exitCode === 3 ? "refused" : "failed");
      }
    }
  },
);

test("a document that does not fit is seen", () => {
  const head = { schemaVersion: ANSWER_SCHEMA, ended: "failed", kit: "1", exitCode: 1, message: "x" };
  expect(faultsBy(schema, find(schema, "#/$defs/stopped"), head)).toEqual(["/hint: is missing"]);
  expect(
    faultsBy(schema, find(schema, "#/$defs/words"), { ...head, ended: "ok", words: [{ at: "x" }] }),
  ).toEqual(expect.arrayContaining(["/words/0/option: is missing", "/words/0/at: is no date: x"]));
});
