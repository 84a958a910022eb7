/** Who may change a node. The tests of whole scripts test the rest of node.ts. */
import { afterAll, expect, spyOn, test } from "bun:test";
import { setRoot } from "../../../shared/files/files.ts";
import { needRoot, routedAddress } from "../../../shared/node/node.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { routesOf } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

afterAll(leaveNode);

test("scripts that change a node refuse whoever is not root, except below another root", () => {
  setRoot("/");
  using uid = spyOn(process, "getuid").mockReturnValue(1000);
  expect(needRoot).toThrow("This script changes the node and needs root");
  using _box = sandbox();
  expect(needRoot).not.toThrow();
  uid.mockReturnValue(0);
  setRoot("/");
  expect(needRoot).not.toThrow();
});

const [OWN, VIP] = ["10.0.1.11", "10.0.1.100"];
const at = (local: string, prefixlen: number, more: object = {}) => ({ local, prefixlen, ...more });
const LEASE = { dynamic: true, valid_life_time: 3000 };

test.each<[string, object[], object, string | undefined]>([
  ["one address", [at(OWN, 24)], {}, OWN],
  [
    "one address without a net, as GCE and Hetzner give it",
    [at(OWN, 32, LEASE)],
    { gateway: "10.0.1.1" },
    OWN,
  ],
  ["kube-vip's address first", [at(VIP, 32), at(OWN, 24)], {}, OWN],
  ["kube-vip's address first, where neither has a net", [at(VIP, 32), at(OWN, 32, LEASE)], {}, OWN],
  [
    "keepalived's address first, with the net's own mask, and then a lease",
    [at(VIP, 24), at(OWN, 24, { secondary: true, ...LEASE })],
    {},
    OWN,
  ],
  [
    "keepalived's address later, with the net's own mask",
    [at(OWN, 24), at(VIP, 24, { secondary: true })],
    {},
    OWN,
  ],
  [
    "keepalived's address with the net's own mask, listed first though it is second to the own",
    [at(VIP, 24, { secondary: true }), at(OWN, 24)],
    {},
    OWN,
  ],
  ["the route names its source", [at(VIP, 24), at(OWN, 24, { secondary: true })], { prefsrc: OWN }, OWN],
  ["another net first", [at("192.168.7.5", 24), at(OWN, 24)], { gateway: "10.0.1.1" }, OWN],
  ["the cluster's VIP alone: the own address is away", [at("10.0.1.200", 24)], {}, undefined],
  [
    "the cluster's VIP first, with the net's own mask",
    [at("10.0.1.200", 24), at(OWN, 24, { secondary: true })],
    {},
    OWN,
  ],
  [
    "the cluster's VIP, and the route names it",
    [at("10.0.1.200", 24), at(OWN, 24)],
    { prefsrc: "10.0.1.200" },
    OWN,
  ],
  [
    "IPv6: one for privacy, an old one, a VIP",
    [
      at("fd00::9", 64, { temporary: true }),
      at("fd00::8", 64, { deprecated: true }),
      at("fd00::7", 128),
      at("fd00:0::1", 64, LEASE),
    ],
    { gateway: "fe80::1" },
    "fd00::1",
  ],
  ["IPv6 by DHCP, without a net", [at("fd00::7", 128), at("fd00::1", 128, LEASE)], {}, "fd00::1"],
  ["none", [], {}, undefined],
])("of several addresses the machine's own, and no VIP: %s", async (_, addresses, route, own) => {
  const like = own?.includes(":") ? "fd01::1" : "10.0.0.11";
  const found = await lookAt({ kind: "no node", commands: routesOf(addresses, route) }, () =>
    routedAddress(like, (ip) => ip === "10.0.1.200"),
  );
  expect(found).toBe(own);
});
