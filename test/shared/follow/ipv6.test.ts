/** Nodes with addresses of IPv6: ssh takes one without brackets, scp takes it in brackets, and a link-local one is no node's. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { sshHostOf } from "../../../shared/follow/destination.ts";
import type { Host } from "../../../shared/follow/host.ts";
import { readPlanData } from "../../../shared/follow/trusted-plan.ts";
import { linesOfAct } from "../../../shared/plan/by-hand.ts";
import { addressToType, identitiesOf } from "../../../shared/workers/identities.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { planOf } from "../../pretend/plan-answer-here.ts";
import { withSsh } from "../../pretend/ssh-of-ours.ts";

setDefaultTimeout(300_000);

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
