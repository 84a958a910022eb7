/** `repair` on a control plane node itself, without a laptop: what a fetch, a backup and the end of the kit are there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import { ENDS, repairAll } from "../../../shared/follow/follow-plan.ts";
import { folderIn, privateFolder } from "../../../shared/follow/private-folder.ts";
import type { PlanData } from "../../../shared/plan/plan-answer.ts";
import { write } from "../../pretend/cluster.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../../pretend/follow.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { caught } from "../../pretend/quietly.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { typeHere } from "../../pretend/typed-here.ts";

setDefaultTimeout(300_000);

/** A cluster of one node. */
const PLAN = await lookAt(
  {
    etcd: (objects) => {
      for (const key of Object.keys(objects)) if (/^minions\/w|\/w[12]$/.test(key)) delete objects[key];
    },
  },
  async () => JSON.parse((await typeHere("plan --json")).stdout) as PlanData,
);
Object.assign(PLAN.nodes[0]!, { address: "10.0.0.11", why: undefined });

async function repairedHere(ways: readonly RegExp[], cleansUp = false) {
  const person = new PretendPerson(ways);
  const transport = new PretendNodes((_, command) =>
    command.includes("scripts/plan.ts --json") ? { stdout: JSON.stringify(PLAN), exitCode: 2 } : undefined,
  );
  const kit = "/run/kube-pki-repair";
  const first = { name: "this node", address: "", user: "root", isHere: true as const, kit };
  const { session } = pretendSession({ transport, person, more: { cleansUp } });
  Object.assign(session, {
    ...{ first, hosts: new Map([[first.name, first]]), again: "./bunw scripts/repair.ts" },
    kit: () => Promise.reject(new Error("no other node needs the kit")),
  });
  const { value: end, stdout, stderr } = await caught(() => repairAll(session));
  return { end, stdout, stderr, transport };
}

const WAYS = [/^Yes: stop the loss/, /^Make new keys/, /^Begin/];

test("a single node is repaired without ssh and without a kit for others", async () => {
  const { end, transport } = await repairedHere([...WAYS, /^No$/]);
  expect(end).toBe(ENDS.repaired);
  expect(transport.typed()).toContain("m1: ./bunw scripts/01-etcd.ts --new-cas");
  expect(transport.calls.join("\n")).not.toContain("unpack the kit");
});

test("a backup stays where it is until the operator has carried it away: the only copy is not shredded", async () => {
  const { end, stdout, stderr, transport } = await repairedHere([...WAYS, /^Yes$/]);
  expect(end).toBe(ENDS.repaired);
  expect(transport.calls.join("\n")).toContain("hand-over.ts pack --generate");
  expect(transport.calls.join("\n")).not.toMatch(/shred|base64/);
  expect(stderr).toContain("/root/keys.age is on this node: copy it to another machine");
  expect(stdout).toContain("When the backup is on another machine, remove it here: shred -u /root/keys.age");
});

test("the kit under the running repair is removed by hand, last", async () => {
  const { end, stdout, transport } = await repairedHere([...WAYS, /^No$/], true);
  expect(end).toBe(ENDS.repaired);
  expect(transport.calls.join("\n")).toContain("rm -rf /root/kube-pki-repair-*");
  expect(transport.calls.join("\n")).not.toContain("umount");
  expect(stdout).toContain(
    "Last, remove the kit under this repair: cd / && umount /run/kube-pki-repair && rmdir",
  );
});

test("on the node itself no kit and no connection lies on a disk, whose free blocks may have the lost keys", () => {
  using box = sandbox();
  expect(folderIn({ isHere: true })).toBe(`${box.dir}/run`);
  const before = process.env.XDG_RUNTIME_DIR;
  try {
    // after su and sudo -E it is another user's, or gone
    for (const [own, folder] of [
      [box.dir, box.dir],
      [`${box.dir}/gone`, tmpdir()],
      ["", tmpdir()],
    ] as const) {
      process.env.XDG_RUNTIME_DIR = own;
      expect(folderIn({})).toBe(folder);
    }
  } finally {
    delete process.env.XDG_RUNTIME_DIR;
    if (before !== undefined) process.env.XDG_RUNTIME_DIR = before;
  }
  expect(() => privateFolder(`${box.dir}/gone`, "x")).toThrow(`Cannot write ${box.dir}/gone: ENOENT`);
});

test("a machine without a kubelet may be the operator's own: the hint has the line that names a node", async () => {
  using box = sandbox();
  const refused = { schemaVersion: 2, ended: "refused", message: "this node has no etcd", hint: "go to one" };
  const transport = new PretendNodes((_, command) =>
    command.includes("scripts/plan.ts --json") ? { stdout: JSON.stringify(refused) } : undefined,
  );
  const first = { name: "this node", address: "", user: "root", isHere: true as const, kit: "/kit" };
  const { session } = pretendSession({ transport, person: new PretendPerson([]) });
  Object.assign(session, { first, hosts: new Map([[first.name, first]]) });
  const line = "If this is your own machine, name a control plane node: npm run repair -- root@NODE";
  expect((await caught(() => repairAll(session))).stderr).toContain(line);
  write(`${box.dir}/var/lib/kubelet/config.yaml`, "");
  expect((await caught(() => repairAll(session))).stderr).not.toContain("own machine");
});
