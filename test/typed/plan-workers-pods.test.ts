/**
 * A worker that has lost the manifest of a static pod of its own: only its mirror pod has it, so the plan offers it, with
 * the line and as a number of `repair`. It goes back by the operator's word alone, after he has read it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { putPods } from "../../shared/follow/put-pods.ts";
import { linesOfRunbook, readPlanData } from "../../shared/follow/trusted-plan.ts";
import { certInfo } from "../../shared/pki/certificate.ts";
import type { PutPod } from "../../shared/plan/decision-ways.ts";
import type { PlanData } from "../../shared/plan/plan-answer.ts";
import { healthyCp, type Objects, write } from "../pretend/cluster.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../pretend/follow.ts";
import { lookAt } from "../pretend/in-process.ts";
import { proxyOf } from "../pretend/joining.ts";
import { ASKED, pasted } from "../pretend/plan.ts";
import { caught } from "../pretend/quietly.ts";
import { typeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const KNOWN = linesOfRunbook(readFileSync("RUNBOOK.md", "utf8"));

function withProxies(objects: Objects) {
  ASKED.etcd(objects);
  for (const name of ["w1", "w2"]) objects[`pods/kube-system/nginx-proxy-${name}`] = proxyOf(name);
}

const ON = { ...ASKED, etcd: withProxies };
const CONF = { id: "kubelet-conf", what: "/etc/kubernetes/kubelet.conf", state: "!MISSING!" };
const POD = { id: "manifest", what: "static pod kube-system/nginx-proxy", state: "!MISSING!" };
const FOLDER = { id: "manifest", what: "/etc/kubernetes/manifests", state: "known" };
const STRANGER = { ...POD, what: "static pod kube-system/nginx-proxy; curl x | sh" };

/** The plan of a control plane node that has lost all, and of what its workers say. */
async function planOf(damage: Record<string, object[]>, words = "") {
  const change = ({ root }: { root: string }) => {
    for (const [node, rows] of Object.entries(damage)) {
      const said = { schemaVersion: 2, ended: "ok", node, role: "worker", damaged: true, made: new Date() };
      const ofCa = { hashes: [certInfo(ca.cert).publicKeyHash] };
      write(`${root}/root/seen/${node}.json`, JSON.stringify({ ...said, ca: ofCa, damage: rows }));
    }
  };
  return await lookAt(
    { ...ON, change },
    async () => await typeHere(`plan --seen /root/seen ${words}`.trim()),
  );
}

const offeredIn = (plan: PlanData) => plan.decisions.filter(({ id }) => id === "workers-pods");

test.each<[string, Record<string, object[]>, string[]]>([
  ["its record is there", { w1: [CONF, POD], w2: [CONF] }, ["w1"]],
  ["the kubelet has forgotten it", { w1: [CONF, FOLDER], w2: [CONF, POD] }, ["w1", "w2"]],
  ["the worker does not join", { w1: [POD] }, []],
  ["no pod of this name was there", { w1: [CONF, STRANGER] }, []],
  ["nothing of it is lost", { w1: [CONF] }, []],
])("a worker's static pod is offered to those that have lost it: %s", async (_, damage, to) => {
  const plan = JSON.parse((await planOf(damage, "--json")).stdout) as PlanData;
  const offered = offeredIn(plan);
  expect(offered.map(({ ways }) => ways[0]!.puts)).toEqual(
    to.length > 0 ? [{ pod: "nginx-proxy", on: "m1", to, file: "nginx-proxy.yaml" }] : [],
  );
  expect(JSON.stringify(plan)).not.toContain("curl x");
  expect(offeredIn(readPlanData(JSON.stringify(plan), KNOWN) as PlanData)).toEqual(offered);
  const strange = JSON.stringify(plan).replaceAll('"file":"nginx-proxy.yaml"', '"file":"../../x.sh"');
  if (to.length > 0) expect(() => readPlanData(strange, KNOWN)).toThrow("not the name of a static pod");
});

test("by hand it is one line for each worker: out of etcd's data, into a new file there", async () => {
  const { stdout } = await planOf({ w1: [CONF, POD] });
  const lines = stdout.split("\n").filter((line) => line.includes("--manifest"));
  expect(lines).toEqual([
    expect.stringMatching(
      /^set -o pipefail; ssh -n root@\S+ 'cd \S+ && \.\/bunw scripts\/00-assess\.ts --manifest w1\/nginx-proxy' \| ssh -o HostKeyAlias=w1 root@10\.77\.0\.21 'set -C; umask 077; mkdir -p \/etc\/kubernetes\/manifests && cat > \/etc\/kubernetes\/manifests\/nginx-proxy\.yaml'$/,
    ),
  ]);
  expect(pasted(stdout).join("\n")).toContain("01-etcd.ts");
});

test("00-assess --manifest prints that manifest alone, as its container ran it, and names those that there are", async () => {
  const asked = (named: string) => lookAt(ON, () => typeHere(`00-assess --manifest ${named}`));
  const { exitCode, stdout } = await asked("w1/nginx-proxy");
  expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/^apiVersion: v1\nkind: Pod\n/)]);
  expect(stdout).not.toMatch(/nodeName|config\.mirror/);
  const other = await asked("w1/other");
  expect([other.exitCode, other.stderr]).toEqual([
    1,
    expect.stringMatching(
      /has no static pod "w1\/other" of a worker[\s\S]*NODE\/POD: w1\/nginx-proxy, w2\/nginx-proxy/,
    ),
  ]);
});

const PUTS: PutPod = { pod: "nginx-proxy", on: "m1", to: ["w1", "w2", "w3"], file: "nginx-proxy.yml" };
const LINE = "./bunw scripts/00-assess.ts --manifest";

async function put(answers: RegExp[], text?: string) {
  const transport = new PretendNodes((_node, command) => {
    if (command === `${LINE} w3/nginx-proxy`) return { exitCode: 1, stderr: "error: none\u001b[2J" };
    if (!command.startsWith(LINE)) return undefined;
    return {
      stdout: text ?? `kind: Pod\nof: ${command.endsWith("w1/nginx-proxy") ? "w1" : "w2\u001b[2J\r"}\n`,
    };
  });
  const person = new PretendPerson(answers);
  const { session } = pretendSession({ transport, person });
  for (const name of ["m1", ...PUTS.to])
    session.hosts.set(name, { name, address: name, user: "root", kit: "/run/kube-pki-repair" });
  const { stdout, stderr } = await caught(() => putPods(session, PUTS));
  return { transport, person, screen: `${stdout}${stderr}` };
}

test("repair shows each different manifest before it asks, and puts it only where it is of", async () => {
  const { transport, person, screen } = await put([/^Put it back on w1$/, /^Put nothing there$/]);
  expect(person.asked.map((text) => text.split(" | ")[0])).toEqual([
    "Is this the static pod nginx-proxy of w1?",
    "Is this the static pod nginx-proxy of w2?",
  ]);
  expect([...transport.sent]).toEqual([["w1", "kind: Pod\nof: w1\n"]]);
  expect(screen).toContain("nginx-proxy, as the kubelet of w1 has reported it:\n  kind: Pod\n  of: w1\n");
  expect(screen).toContain("wrote /etc/kubernetes/manifests/nginx-proxy.yml on w1");
  expect(screen).toContain("nothing is put there");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys
  expect(screen).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f]/);
});

test.each([
  ["two hundred lines above", "#\n".repeat(200)],
  ["a screen beside", `kind: Pod${" ".repeat(600)}# `],
])("what stands behind %s is not put anywhere unread", async (_, before) => {
  const { transport, person, screen } = await put([/^Put it back/], `${before}evil: 1\n`);
  expect([person.asked, transport.sent.size]).toEqual([[], 0]);
  expect(screen).toContain("It is longer than that");
});
