/** Which nodes were taken out of etcd: its own answers say so, and a silence says nothing. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { nodesToSkip, removedMembers } from "../../../shared/facts/typed-options.ts";
import { type EtcdState, sameEtcd, serveEtcd, TAKEN_OUT } from "../../pretend/etcd.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { MEMBER } from "../../pretend/node.ts";

setDefaultTimeout(300_000);

/** The members that are out, by an etcd that has lost w2's. `anew`: w2 has joined as a worker since. */
async function out(anew: boolean, state: Partial<EtcdState> = {}): Promise<string[]> {
  const members = [MEMBER, TAKEN_OUT];
  return await lookAt({ kind: "healthy control plane node", members }, async ({ root, stored }) => {
    const keys = new Map(stored);
    const key = [...keys.keys()].find((name) => name.endsWith("/minions/w2"))!;
    if (anew) keys.set(key, keys.get(key)!.replace(/"uid":"[^"]*"/, '"uid":"another"'));
    using _etcd = serveEtcd(root, { ...sameEtcd(stored), keys, ...state });
    return await removedMembers(await controlPlaneToRepair(undefined));
  });
}

test("a control plane node whose member is out, and that has not joined anew, is taken out", async () => {
  expect([await out(false), await out(true)]).toEqual([["w2"], []]);
});

test.each([
  ["it is said, and left out", [], 1],
  ["named as lost already: it is lost once, and said by nobody", ["w2"], 0],
])("a node that was taken out: %s", async (_, lost, times) => {
  const members = [MEMBER, TAKEN_OUT];
  await lookAt({ kind: "healthy control plane node", members }, async ({ root, stored }, said) => {
    using _etcd = serveEtcd(root, sameEtcd(stored));
    const left = await nodesToSkip(await controlPlaneToRepair(undefined), { without: ["w2"], lost });
    expect(left).toEqual({ gone: ["w2"], without: [], lost: ["w2"] });
    expect(said.filter((line) => line.includes("no member of etcd any more"))).toHaveLength(times);
  });
});

test("an etcd without a majority says so as well: by what it knows itself", async () => {
  expect([await out(false, { isAlone: true }), await out(true, { isAlone: true })]).toEqual([["w2"], []]);
});

test("where etcd names its members and is silent then, nobody is taken out", async () => {
  let asked = 0;
  const refuses = () => (asked++ === 0 ? undefined : new Response("busy", { status: 503 }));
  expect(await out(true, { refuses })).toEqual([]);
  expect(asked).toBeGreaterThan(1);
});
