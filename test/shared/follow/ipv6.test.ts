/** Nodes with addresses of IPv6: ssh takes one without brackets, scp takes it in brackets, and a link-local one is no node's. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { sshHostOf } from "../../../shared/follow/destination.ts";
import type { Host } from "../../../shared/follow/host.ts";
import { linesOfRunbook, readPlanData } from "../../../shared/follow/trusted-plan.ts";
import { linesOfAct } from "../../../shared/plan/by-hand.ts";
import type { PlanData } from "../../../shared/plan/plan-answer.ts";
import { addressToType, identitiesOf } from "../../../shared/workers/identities.ts";
import type { Objects } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { MEMBERS, setAddress, three } from "../../pretend/plan.ts";
import { planOf } from "../../pretend/plan-answer-here.ts";
import { withSsh } from "../../pretend/ssh-of-ours.ts";
import { typeHere } from "../../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const RUNBOOK = join(import.meta.dir, "../../../RUNBOOK.md");

const W1: Host = { name: "w1", address: "fd00::21", user: "root", alias: "w1", kit: "/k" };

test.each([
  ["root@cp1.example", "root", "cp1.example"],
  ["fd00::11", "root", "fd00::11"],
  ["::1", "root", "::1"],
  ["ops@[fd00::11]", "ops", "fd00::11"],
  ["10.0.0.11", "root", "10.0.0.11"],
])("%s is %s at %s", (destination, user, address) => {
  expect(sshHostOf(destination)).toMatchObject({ user, address, name: address });
});

test.each(["fe80::1%eth0", "root@[fe80::1%eth0]", "fe80::1"])(
  "%s is refused: each link has another machine there",
  (destination) => {
    expect(() => sshHostOf(destination)).toThrow("means another machine on each link");
  },
);

test.each([
  "-oProxyCommand=x",
  "root@-x",
  "[cp1]",
  "[10.0.0.1]",
  "cp1:22",
  "[fd00::11]:22",
  "[fd00::11",
  "a b@cp1",
])("%s is no destination", (destination) => {
  expect(() => sshHostOf(destination)).toThrow("is no destination of ssh");
});

test("ssh gets the address without brackets, in each of its calls, and compares the key with the node's", async () => {
  const { value, ran } = await withSsh(async (ssh) => {
    for (const host of [sshHostOf("ops@[fd00::11]"), W1]) await ssh.meet(host);
    return await ssh.run(W1, "exit 5");
  });
  expect(value).toMatchObject({ exitCode: 5 });
  const [asked, first, other, typed] = ran.filter((line) => !line.includes("-O|exit"));
  expect(asked).toBe("-G|ops@fd00::11|");
  expect(first).toEndWith("|ops@fd00::11|");
  expect(other).toMatch(/-J\|bastion\|-o\|HostKeyAlias=w1\|root@fd00::21\|$/);
  expect(typed).toContain("HostKeyAlias=w1|root@fd00::21|");
});

test.each([
  ["an address of IPv6 with a port", "ops@[fd00::1]:2200"],
  ["the link of the operator's own machine", "[fe80::1%eth0]:2200"],
  ["two of them, and a user with a sign", "j+x@bastion,ops@[fd00::1]"],
])("the other nodes are reached through the first one's jump host: %s", async (_, proxyjump) => {
  const { ran } = await withSsh(
    async (ssh) => {
      for (const host of [sshHostOf("fd00::11"), W1]) await ssh.meet(host);
    },
    { way: { port: "22", proxyjump } },
  );
  const other = ran.find((line) => line.startsWith("-M|") && line.includes("HostKeyAlias=w1"));
  expect(other).toContain(`|-J|${proxyjump}|`);
});

test("a printed line has brackets for scp, and none for ssh", () => {
  const reach = (name: string) =>
    name === "w1" ? W1 : { ...W1, name, address: "fd00::11", alias: undefined };
  const fetched = linesOfAct({ do: "fetch", from: "cp1", file: "report.tar.gz" }, { reach });
  expect(fetched.map(({ text }) => text).join("\n")).toContain("scp -p 'root@[fd00::11]:/k/report.tar.gz' ");
  const carried = linesOfAct(
    { do: "carry", from: "cp1", to: ["w1"], files: ["token"], secret: true },
    { reach },
  );
  const text = carried.map((line) => line.text).join("\n");
  expect(text).toMatch(/ssh -n root@fd00::11 .*\| ssh -o HostKeyAlias=w1 root@fd00::21 /);
});

test("a plan of such nodes has their addresses without brackets, as Ansible takes them, too; its lines are known ones", async () => {
  const addresses = { m2: "fd00::12", m3: "fd00::13", w1: "fd00::21", w2: "fd00::22" };
  const etcd = (objects: Objects) => {
    three(objects);
    for (const [name, address] of Object.entries(addresses)) setAddress(objects, name, address);
  };
  const members = MEMBERS.map((member) =>
    member.name in addresses
      ? { ...member, peerURLs: [`https://[${addresses[member.name as "m2"]}]:2380`] }
      : member,
  );
  const [data, page] = await lookAt({ etcd, members }, async () => [
    (await typeHere("plan --json")).stdout,
    (await typeHere("plan --user ops")).stdout,
  ]);
  const plan = readPlanData(data!, linesOfRunbook(await Bun.file(RUNBOOK).text())) as PlanData;
  const others = plan.nodes.filter(({ name }) => name in addresses);
  expect(Object.fromEntries(others.map(({ name, address }) => [name, address]))).toEqual(addresses);
  expect(page).toContain("ssh -n -o HostKeyAlias=w1 ops@fd00::21 ");
  expect(page).not.toMatch(/ssh [^|]*@'?\[fd00/);
});

test.each(["fe80::21%eth0", "fe80::21"])("a plan with %s is none", async (address) => {
  const plan = await planOf("");
  const other = { ...plan, nodes: [{ ...plan.nodes[0]!, name: "w1", address }] };
  expect(() => readPlanData(JSON.stringify(other), new Set())).toThrow("not an IP address");
});

test.each(["fe80::21%eth0", "fe80::21"])(
  "a Node that says %s has no address to type, and ends no plan",
  async (address) => {
    const data = await pretendData((objects) => {
      Object.assign(objects["minions/w1"]!, { status: { addresses: [{ type: "InternalIP", address }] } });
    });
    const all = identitiesOf({ cluster: readCluster(data), data });
    expect(addressToType(all.byName.get("w1")!, all)).toMatchObject({
      address: "ADDRESS-OF-w1",
      why: expect.any(String),
    });
  },
);
