/**
 * plan --lost NODE, on pretend nodes: nothing is typed on a node that is lost for good, and what is printed
 * remembers it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { healthyCp, type Objects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expectTranscript, MEMBER, pretendNode } from "../pretend/node.ts";
import { ASKED, AT, pasted, plan } from "../pretend/plan.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const HEALTHY = { kind: "healthy control plane node" } as const;
const DELETE = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found";

/** The lines of all fences, those of the notes, too. */
function fences(stdout: string): string {
  return [...stdout.matchAll(/```sh\n([\s\S]*?)\n```/g)].map(([, lines]) => lines).join("\n");
}

test("one of three control plane nodes is lost for good: the page is for the others, and says what it costs and how a new one comes in", async () => {
  await expectTranscript("plan-without", await plan({ ...ASKED, args: "--lost m2" }));
});

test("no line goes to the lost node, no key is looked for there, and the line that takes it out of etcd alone has --lost", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2" });
  expect(fences(stdout)).not.toMatch(/127\.77\.0\.12|root@m2/);
  expect(stdout).not.toMatch(/\(m2, m3|maybe on m2/);
  const lines = pasted(stdout).filter((line) =>
    /02-control.*\.ts|03-workers.ts (open|close)|04-sa|delete node/.test(line),
  );
  expect(lines).toEqual([
    "m1# 02-control-plane.ts --lost m2",
    "m3# 02-control-plane.ts --lost m2",
    "m1# 03-workers.ts open",
    "m1# 03-workers.ts close",
    "m3# 03-workers.ts close",
    `m1# ${DELETE} m2`,
    "m1# 04-sa-tokens.ts --dry-run",
    "m1# 04-sa-tokens.ts",
  ]);
  expect(fences(stdout)).toContain("./bunw scripts/plan.ts --deep --image FILE\n");
  expect(stdout).toMatch(
    /print the plan there, and follow that one\.\n\n```sh\n# on m3:\n\.\/bunw scripts\/plan\.ts --lost m2\n/,
  );
});

test("the lines that make keys, and that take members out, have --lost-on, and no others", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2 --lost-on m2" });
  const lines = pasted(stdout).filter((line) => /# 0.*--lost-on m2/.test(line));
  expect(lines).toEqual([
    "m1# 01-etcd.ts --new-cas --lost-on m2",
    "m1# 02-control-plane.ts --lost m2 --lost-on m2",
    "m3# 02-control-plane.ts --lost m2 --lost-on m2",
  ]);
});

test("without --lost the page does not know it: each node is repaired", async () => {
  const { stdout } = await plan(ASKED);
  expect(pasted(stdout)).toContain("m2# 02-control-plane.ts");
  expect(fences(stdout)).not.toMatch(/--lost|delete node/);
});

test("a lost worker is left out of part 3, and stays out of part 2: it is no member of etcd", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost w2" });
  expect(fences(stdout)).not.toContain("10.77.0.22");
  expect(pasted(stdout)).toContain("m2# 02-control-plane.ts");
  expect(pasted(stdout)).toContain("m2# 03-workers.ts close");
  expect(pasted(stdout)).toContain(`m1# ${DELETE} w2`);
  expect(stdout).not.toMatch(/out of etcd's members, on|takes the place of m/);
});

test("both at once: each name where it belongs", async () => {
  const { stdout } = await plan({ ...ASKED, args: "--lost m2,w2 --lost w1" });
  expect(pasted(stdout)).toContain("m3# 02-control-plane.ts --lost m2");
  expect(pasted(stdout)).toContain("m3# 03-workers.ts close");
  expect(pasted(stdout)).toContain(`m1# ${DELETE} m2 w2 w1`);
  expect(pasted(stdout).filter((line) => /^scp .*token /.test(line))).toEqual([]);
});

test("a member that part 2 has taken out is left out, though nobody names it again", async () => {
  const beside = (node: { root: string; stored: Map<string, string> }) =>
    serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, ASKED.members[2]!] });
  const { stdout, stderr } = await plan({
    ...{ ...HEALTHY, ...ASKED, beside },
    change: (root) => rmSync(`${root}/etc/kubernetes/manifests/kube-apiserver.yaml`),
  });
  expect(stderr).toContain(
    "  m2: no member of etcd any more (02-control-plane --lost): left out here, too\n",
  );
  expect(fences(stdout)).not.toContain("127.77.0.12");
  expect(pasted(stdout)).toContain("m3# 03-workers.ts close");
});

test("a member that was taken out may be named again: then it is one of those that do not count", async () => {
  const beside = (node: { root: string; stored: Map<string, string> }) =>
    serveEtcd(node.root, sameEtcd(node.stored));
  const etcd = (objects: Objects) => {
    ASKED.etcd(objects);
    delete objects["minions/m3"];
  };
  const two = { ...HEALTHY, etcd, members: ASKED.members.slice(0, 2), beside };
  const { exitCode, stdout, stderr } = await plan({ ...two, args: "--lost m2" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stdout).toContain("**This plan takes m2 out of the cluster: ");
});

test("where nothing else is damaged and etcd answers on the others, the page takes the node out and does no more", async () => {
  const beside = ({ root, stored }: { root: string; stored: Map<string, string> }) => {
    const servers = [
      serveEtcd(root, { ...sameEtcd(stored), members: ASKED.members }),
      serveEtcd(root, sameEtcd(stored), AT.m3),
    ];
    return { [Symbol.dispose]: () => servers.forEach((server) => void server[Symbol.dispose]()) };
  };
  const { exitCode, stdout } = await plan({ ...HEALTHY, ...ASKED, beside, args: "--lost m2" });
  expect(exitCode).toBe(0);
  expect(stdout).toContain(
    "**This plan takes m2 out of the cluster: nothing is damaged on this node, and etcd runs on the others.**",
  );
  expect(fences(stdout.split("\n## 6 ")[0]!)).not.toMatch(/systemctl|01-etcd|hand-over|04-sa/);
  expect(pasted(stdout)).toContain("m3# 02-control-plane.ts --lost m2");
  const silent = await plan({ ...HEALTHY, ...ASKED, args: "--lost m2" });
  const steps = fences(silent.stdout);
  expect(steps).toMatch(/01-etcd[\s\S]*02-control-plane.ts --lost m2/);
  expect(steps).not.toContain("systemctl stop kubelet");
});

test("the page as HTML says it, too", async () => {
  using node = await pretendNode(ASKED);
  await node.run(`plan ${node.root}/plan.html --lost m2`);
  const page = node.read(`${node.root}/plan.html`).replaceAll(/<span class="name">(.*?)<\/span>/g, "$1");
  expect(page).toContain("<li><b>m2</b><span>lost for good: nothing is typed there</span></li>");
  expect(page).toContain("takes the place of m2");
  expect(page).not.toContain(AT.m2);
});

test.each([
  [
    "a name that etcd never knew",
    "--lost cp33",
    /^etcd knew no node "cp33"$/,
    /^name one of its nodes: m1, m2, m3, w1, w2$/,
    3,
  ],
  ["this node itself", "--lost m1", /^"m1" is this node, and it is not lost$/, /^name only other nodes/, 3],
  [
    "so many that etcd would never answer",
    "--lost m2,m3",
    /^etcd cannot answer without m2, m3: /,
    /^bring one of these nodes back/,
    3,
  ],
] as const)("refused: %s", async (_, line, error, hint, code) => {
  using node = await pretendNode(ASKED);
  await expectRefusal(node, `plan ${line}`, error, hint, code);
});

test("refused: a node whose etcd answers is not lost", async () => {
  using node = await pretendNode({ ...HEALTHY, ...ASKED });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored), AT.m2);
  await expectRefusal(
    node,
    "plan --lost m2",
    /^m2 is not lost: its etcd answers at [\d.]+:2380$/,
    /^repair it/,
    3,
  );
});
