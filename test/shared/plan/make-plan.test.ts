/** What a plan has for this cluster and this damage: which lines, on which nodes, with which notes. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assess } from "../../../shared/assess/assess.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { deepAsked } from "../../../shared/assess/survivors.ts";
import { Fail } from "../../../shared/fail.ts";
import { linesOfRunbook, readPlanData } from "../../../shared/follow/trusted-plan.ts";
import { typed } from "../../../shared/options.ts";
import { makePlan } from "../../../shared/plan/make-plan.ts";
import { planAsMarkdown } from "../../../shared/plan/markdown.ts";
import { planAsData } from "../../../shared/plan/plan-data.ts";
import { factsForPlan } from "../../../shared/plan/plan-facts.ts";
import { planAsPage } from "../../../shared/plan/plan-page.ts";
import {
  ADDRESS,
  clusterObjects,
  healthyCp,
  heardUntil,
  type Objects,
  write,
} from "../../pretend/cluster.ts";
import { giveToCompany, ofCompany, renewedByCompany } from "../../pretend/company-ca.ts";
import { decisions } from "../../pretend/decisions.ts";
import { sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { expireCertificates } from "../../pretend/expired.ts";
import { lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { bigInt, pretendProcess } from "../../pretend/memory.ts";
import type { NodeOptions } from "../../pretend/node.ts";
import { MEMBERS, pasted, reachable, setAddress, three } from "../../pretend/plan.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { root: healthy, ca } = await healthyCp();
const YESTERDAY = new Date(Date.now() - 86_400_000);
const expired = await ofCompany(ca.cert, YESTERDAY);
const PKI = "/etc/kubernetes/pki";
const RUNBOOK = await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text();
const key = (file: string) => bigInt(createPrivateKey(readFileSync(`${healthy}${PKI}/${file}`, "utf8")));

type Asked = Parameters<typeof factsForPlan>[1];

interface Row {
  what: string;
  on?: NodeOptions;
  change?: (node: Node) => unknown;
  asked?: Partial<Asked>;
}

const WELL = { kind: "healthy control plane node" } as const;
const gone =
  (...files: string[]) =>
  ({ root }: Node) => {
    for (const file of files) rmSync(`${root}${PKI}/${file}`);
  };
const memory = ({ root }: Node) =>
  pretendProcess(root, { pid: 31, comm: "kube-controller", holds: [key("ca.key"), key("sa.key")] });
const THREE: NodeOptions = { etcd: three, members: MEMBERS };
const workers = (count: number) => (objects: Objects) => {
  reachable(objects);
  const w1 = JSON.stringify(objects["minions/w1"]);
  for (let n = 3; n <= count; n++) {
    objects[`minions/w${n}`] = JSON.parse(w1.replaceAll('w1"', `w${n}"`));
    setAddress(objects, `w${n}`, `10.77.1.${n}`);
  }
};
const labelled = (objects: Objects) => {
  three(objects);
  const labels = { "node-role.kubernetes.io/control-plane": "" };
  Object.assign((objects["minions/w1"] as { metadata: object }).metadata, { labels });
};

const ROWS: Row[] = [
  { what: "all is lost" },
  { what: "all is lost, for a user with sudo", asked: { user: "ubuntu" } },
  { what: "all is lost, at an endpoint that the operator names", asked: { endpoint: "lb.example:6443" } },
  { what: "all is lost, and the operator says where etcd's data is", asked: { "etcd-data": "/srv/my etcd" } },
  { what: "all is lost, with 25 workers", on: { etcd: workers(25) } },
  {
    what: "all is lost, without a worker",
    on: {
      etcd: (objects) => {
        delete objects["minions/w1"];
        delete objects["minions/w2"];
      },
    },
  },
  { what: "all is lost, a worker is away", asked: { without: ["w2"] } },
  {
    what: "all is lost, a worker has no address to type",
    on: {
      etcd: (objects) => {
        reachable(objects);
        setAddress(objects, "w2");
      },
    },
  },
  { what: "all is lost on three", on: THREE },
  { what: "all is lost on three, and one has been looked at", on: THREE, asked: { "lost-on": ["m2"] } },
  { what: "memory has keys", change: memory },
  {
    what: "memory has a key, and another is in its place",
    on: WELL,
    change: (node) => {
      memory(node);
      writeFileSync(`${node.root}${PKI}/ca.key`, readFileSync(`${healthy}${PKI}/etcd/ca.key`));
    },
  },
  { what: "the internal CAs are lost", on: WELL, change: gone("etcd/ca.key", "front-proxy-ca.key") },
  { what: "sa.key is lost", on: WELL, change: gone("sa.key") },
  { what: "sa.key is lost on three", on: { ...WELL, ...THREE }, change: gone("sa.key") },
  { what: "all certificates have expired", on: WELL, change: ({ root }) => expireCertificates(root) },
  {
    what: "all certificates have expired on three",
    on: { ...WELL, ...THREE },
    change: ({ root }) => expireCertificates(root),
  },
  {
    what: "all certificates have expired on three, one is away, and no bundle says so to the other",
    on: { ...WELL, ...THREE },
    change: ({ root }) => expireCertificates(root),
    asked: { without: ["m2"], endpoint: "lb.example:6443" },
  },
  {
    what: "CAs that a company has signed have expired",
    on: { ...WELL, etcd: (objects) => Object.assign(objects, clusterObjects(expired)) },
    change: ({ root }) => giveToCompany(root, YESTERDAY),
  },
  {
    what: "the same, and what the company has signed since is in place",
    on: {
      ...WELL,
      etcd: (objects) => Object.assign(objects, clusterObjects(expired), heardUntil("m1", YESTERDAY)),
    },
    change: ({ root }) => renewedByCompany(root, YESTERDAY),
  },
  { what: "one certificate is lost", on: WELL, change: gone("apiserver.crt") },
  { what: "all is well", on: WELL },
  { what: "this one of three is well", on: { ...WELL, ...THREE } },
  {
    what: "the data cannot be read",
    on: {
      etcd: (objects) => {
        for (const name of Object.keys(objects))
          if (!name.startsWith("minions")) objects[name] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
      },
    },
  },
  { what: "a file that nobody can rebuild is there", on: WELL, change: gone("ca.key") },
  { what: "refused: a node of which only a label says what it is", on: { etcd: labelled, members: MEMBERS } },
  {
    what: "a worker with that label, as the operator says",
    on: { etcd: labelled, members: MEMBERS },
    asked: { worker: ["w1"] },
  },
  { what: "refused: a name that nobody has", asked: { lost: ["m9"] } },
  { what: "refused: too few members remain", on: THREE, asked: { lost: ["m2", "m3"] } },
  { what: "one of three is lost for good", on: { ...WELL, ...THREE }, asked: { lost: ["m2"] } },
  { what: "one of three is away", on: { ...WELL, ...THREE }, asked: { without: ["m2"] } },
];

const holds = decisions("plan");

test.each(ROWS)("$what", async ({ what, ...row }) => {
  const decided = await decidedIn(row);
  holds(what, JSON.parse(JSON.stringify(decided).replaceAll(ADDRESS.replace(/\d+$/, ""), "127.77.0.")));
});

function decidedIn({ on, change, asked }: Omit<Row, "what">) {
  return lookAt({ etcd: reachable, ...on, change }, async (node) => {
    using _etcd = on?.kind
      ? serveEtcd(node.root, {
          ...sameEtcd(node.stored),
          members: [...(on.members ?? MEMBERS.slice(0, 1))] as never,
        })
      : nobody;
    try {
      return await decidedFor({ without: [], lost: [], worker: [], "lost-on": [], ...asked });
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      return { refused: err.message, code: err.exitCode };
    }
  });
}

const nobody: Disposable = { [Symbol.dispose]: () => undefined };

/** As scripts/plan.ts. */
async function decidedFor(asked: Asked) {
  const seen = await lookHere(undefined, asked.endpoint);
  const facts = await factsForPlan(seen.partialFacts ?? {}, asked);
  const assessed = await assess(seen, { deep: deepAsked({ deep: true, "no-disk": true }), lost: facts.lost });
  const plan = makePlan(assessed, facts, RUNBOOK);
  // repair types nothing else: each line of each of these plans passes its closed list
  const data = planAsData(plan, facts, assessed.damaged);
  expect(readPlanData(JSON.stringify(data), linesOfRunbook(RUNBOOK)).ended).toBe("ok");
  const notes = [...plan.first, ...plan.parts.flatMap((part) => part.notes)];
  return {
    nodes: plan.nodes.map((node) => Object.values(node).map(String).join(" ")),
    undo: plan.parts.flatMap(({ number, undo }) => (undo ? [number] : [])).join(" "),
    parts: plan.parts.map(({ number, steps }) => `${number}: ${steps.map(({ on }) => on.length).join(" ")}`),
    said: plan.parts.flatMap(({ steps }) =>
      steps.flatMap(({ number, note }) =>
        note ? [`${number}: ${note.split(" ").slice(0, 4).join(" ")}`] : [],
      ),
    ),
    titles: planAsMarkdown(plan).match(/^#+ \d.*$/gm),
    pasted: pasted(planAsMarkdown(plan)),
    atTheSameTime: planAsMarkdown(plan).match(/\(side by side\)/g)?.length ?? 0,
    notes: notes.map(({ text, commands }) =>
      [
        text.split(" ").slice(0, 6).join(" "),
        ...commands.map(({ at, text }) => `${at ? `${at}# ` : ""}${text.split("\n")[0]}`),
      ].join(" | "),
    ),
    boxes: planAsPage(plan).match(/type="checkbox"/g)?.length ?? 0,
    seconds: plan.seconds.map((seconds) => Math.round(seconds)).join("-"),
  };
}

test.each<[string, boolean, Omit<Row, "what">]>([
  ["all keys are made anew", true, {}],
  ["an internal CA is", true, { on: WELL, change: gone("front-proxy-ca.key", "front-proxy-ca.crt") }],
  ["a certificate alone is", false, { on: WELL, change: gone("apiserver.crt") }],
])("where %s, the bundle of keys that lies here comes first: %p", async (_, comesFirst, row) => {
  const change = async (node: Node) => {
    write(node.root + typed("keys.age"), "x");
    await row.change?.(node);
  };
  const decided = await decidedIn({ ...row, change });
  const [first] = "notes" in decided ? decided.notes : [];
  expect(first?.startsWith("A bundle of keys lies here:") ?? false).toBe(comesFirst);
});
