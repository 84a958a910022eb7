/**
 * A plan's texts are of this node's layout: what a step does, costs and how it is taken back names no path that the node
 * cannot have, and no etcd that is started where nothing of the kit starts it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Task } from "../../shared/facts/course.ts";
import { effortHere } from "../../shared/plan/effort-here.ts";
import type { PlanData, StepData } from "../../shared/plan/plan-answer.ts";
import { readRunbook } from "../../shared/plan/runbook.ts";
import { undoHere } from "../../shared/plan/undo-here.ts";
import { ADDRESS } from "../pretend/cluster.ts";
import { sameEtcd, serveUnit } from "../pretend/etcd.ts";
import { ETCD_HOST, ETCD_PKI, nodeOf, OTHER_MEMBER, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { gone } from "../pretend/in-process.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

/** Made by a repair, or named for what a person brings. */
const MADE = [/^\/root(?:\/kube-pki-repair-TIME)?\/?$/, /^\/run\/kube-pki-repair/, /\/sa-old\.pub$/];

type Node = ReturnType<typeof here>;

const LAYOUTS: Record<
  string,
  { make: () => Promise<Node>; dir: string; etcd: RegExp; undo: RegExp; at?: string }
> = {
  "kubeadm's, etcd as a static pod": {
    make: async () => here(await pretendNode({ kind: "healthy control plane node" })),
    dir: "/etc/kubernetes/pki",
    etcd: /^Start etcd on its old data$/,
    undo: /^`mv \/etc\/kubernetes\/manifests\/etcd\.yaml \/root\/`/,
  },
  "kubespray's, etcd as a unit": {
    make: async () => here(await nodeOf("kubespray")),
    dir: "/etc/kubernetes/ssl",
    at: ADDRESS,
    etcd: /^Prove etcd, which runs as a unit of systemd/,
    undo: /^Etcd is still the unit that it was, on the same data\. /,
  },
  "etcd on other machines": {
    make: async () => here(await nodeOf("KubeKey 3", { elsewhere: true })),
    at: ETCD_HOST,
    dir: "/etc/kubernetes/pki",
    etcd: /^Prove etcd, which runs on other machines/,
    undo: /^Etcd runs on other machines, and this part changes nothing there\. /,
  },
};

async function planOf({ make, at = ETCD_HOST }: (typeof LAYOUTS)[string]) {
  using node = await make();
  const member = at === ADDRESS ? UNIT_MEMBER : OTHER_MEMBER;
  const state = { ...sameEtcd(node.stored), members: [{ ...member, clientURLs: [`https://${at}:2379`] }] };
  using _etcd = serveUnit(ETCD_PKI, state as never, at);
  const files = new Set(new Bun.Glob("etc/**").scanSync({ cwd: node.root, dot: true, onlyFiles: false }));
  gone("pki/ca.key", "pki/ca.crt", "pki/sa.key", "pki/apiserver.crt")(node);
  const { stdout, stderr } = await node.run("plan --json");
  return { plan: JSON.parse(stdout) as PlanData, files, stderr };
}

const textsOf = ({ does, costs, note, longer }: StepData) =>
  [does, costs, note, longer].flatMap((one) => one ?? []);

function pathsIn(texts: readonly string[]): string[] {
  const all = texts.join("\n").matchAll(/(?<![\w.:/])\/(?:etc|root|run|var)\/[\w./*-]+/g);
  return [...new Set([...all].map(([path]) => path.replace(/[./]+$/, "")))];
}

test.each(Object.entries(LAYOUTS))("%s: each text of the plan is of this layout", async (_, layout) => {
  const { plan, files, stderr } = await planOf(layout);
  const steps = plan.parts.flatMap((part) => part.steps);
  if (steps.length < 4) console.log(plan.aim, plan.elsewhere, plan.verdict, plan.decisions, plan.notes);
  expect({ tasks: steps.map(({ task }) => task), stderr }).toMatchObject({
    tasks: expect.arrayContaining(["new-cas"]),
  });
  expect(steps.find(({ task }) => task === "new-cas")!.does).toMatch(layout.etcd);
  const undos = plan.parts.map(({ undo }) => undo);
  expect(plan.parts.find(({ number }) => number === 1)!.undo).toMatch(layout.undo);
  const isThere = (path: string) =>
    MADE.some((one) => one.test(path)) || [...files].some((file) => new Bun.Glob(path.slice(1)).match(file));
  const paths = pathsIn([...undos, ...steps.flatMap(textsOf)]);
  expect(paths.length).toBeGreaterThan(1);
  expect(paths.filter((path) => !isThere(path))).toEqual([]);
  // a step that was not planned has nothing to take back
  const makesOldKey = steps.some(({ task }) => task === "token-key");
  const old = pathsIn(undos).filter((path) => path.endsWith("sa-old.pub"));
  expect(old).toEqual(makesOldKey ? [`${layout.dir}/sa-old.pub`] : []);
});

const RUNBOOKS = readRunbook(await Bun.file("RUNBOOK.md").text()).parts.find(({ number }) => number === 0)!;

test.each<[Task[], RegExp]>([
  [["hold"], /^`for p in [^`]+`,\s+then `systemctl start kubelet` \(not where [^)]+\)\.$/],
  [["token-key"], /^`rm \/etc\/kubernetes\/ssl\/sa-old\.pub`\.$/],
  [["hold", "look", "token-key"], /^`for p in .*; `rm \/etc\/kubernetes\/ssl\/sa-old\.pub`\.$/s],
  [["look", "salvage"], /^$/],
])("part 0 is taken back by what this plan does in it: %p", (tasks, says) => {
  expect(undoHere(RUNBOOKS, { tasks, certificatesDir: "/etc/kubernetes/ssl" })).toMatch(says);
});

test("how many containers run on is counted where a kubelet restarts, too", () => {
  const here = { lost: { names: [], away: [], controlPlanes: [], silent: [] }, bundles: [] };
  const costs = (counts: [string, number][]) =>
    effortHere("join", { ...here, workloads: new Map(counts) }, ["w1", "w2", "w3"]).costs;
  expect(costs([])).toBe("its kubelet restarts, and no container");
  expect(
    costs([
      ["w1", 7],
      ["w2", 0],
    ]),
  ).toBe("its kubelet restarts; 7 containers run on (w1 7); no workload runs now on w2");
});
