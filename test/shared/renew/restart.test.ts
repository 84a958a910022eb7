/** Who is restarted for a CA's certificate that has another in its place, in which order, and what proves each. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { adminClient } from "../../../shared/api/admin-api.ts";
import { readControlPlaneNode } from "../../../shared/facts/control-plane-node.ts";
import type { CaReader } from "../../../shared/renew/ca-reader.ts";
import { holdsAnother, restartReaders, restartTogether } from "../../../shared/renew/restart.ts";
import type { ApiOptions } from "../../pretend/api.ts";
import { sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { CRICTL, crictlPs } from "../../pretend/node.ts";
import { living, MANAGER_LEASE, SCHEDULER_LEASE, serveRunning } from "../../pretend/running.ts";

setDefaultTimeout(300_000);

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const reader = (name: string, more: Partial<CaReader> = {}) =>
  ({ name, ca: "ca", path: "/x", ...more }) as CaReader;

test.each<[string, Partial<CaReader>, boolean, boolean]>([
  ["an older one", { holds: "an older one" }, true, false],
  ["today's", { holds: "today's" }, false, false],
  ["nothing is known", {}, false, false],
  ["it started before the file changed", { started: at(1), changed: at(2) }, true, true],
  ["it started with the change", { started: at(2), changed: at(2) }, false, false],
  ["it started after the change", { started: at(3), changed: at(2) }, false, false],
  ["nobody knows when it started", { changed: at(2) }, false, false],
  ["nobody knows when the file changed", { started: at(1) }, false, false],
  ["today's, and it started before", { holds: "today's", started: at(1), changed: at(2) }, false, true],
])("who holds another certificate: %s", (_, one, renewing, undoing) => {
  expect([holdsAnother({})(reader("etcd", one)), holdsAnother({ undo: true })(reader("etcd", one))]).toEqual([
    renewing,
    undoing,
  ]);
});

const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-vip"];
/** A tenant's etcd, and one of ours that has ended: neither is stopped. */
const OTHERS = [
  { name: "etcd", id: "tenants-id", pod: "etcd-0", podUid: "5c3e2d1f-0a9b-4c8d-8e7f-1a2b3c4d5e6f" },
  { name: "kube-vip", id: "ended-id", podUid: "0123456789abcdef0123456789abcdef", running: false },
  { name: "kube-vip", id: "shop-id", podUid: "kube-vip-uid" },
];

/** The kubelet starts each again at once: its container has another id. */
const COMMANDS = [
  { command: `${CRICTL} ps -a -o json`, does: 'cat "$FAKE/ps"; exit 0' },
  {
    command: `${CRICTL} stop --timeout *`,
    does: `id="\\"\${call##* }\\""; ps=$(cat "$FAKE/ps"); printf %s "\${ps%%"$id"*}\\"again\\"\${ps#*"$id"}" > "$FAKE/ps"`,
  },
];

/** Leaders renew their Leases with each question, and a Lease that is free is taken. */
const leading: NonNullable<ApiOptions["on"]> = ({ method, path }, { objects }) => {
  if (method === "DELETE" && path === SCHEDULER_LEASE) {
    objects.set(path, { metadata: {}, spec: { holderIdentity: "m1_after" } });
    return Response.json({});
  }
  if ([MANAGER_LEASE, SCHEDULER_LEASE].includes(path) && objects.has(path))
    objects.get(path).spec.renewTime = new Date(Date.now() + asked++).toISOString();
  return undefined;
};
let asked = 0;

async function onNode<T>(
  action: (cp: Awaited<ReturnType<typeof readControlPlaneNode>>, node: Node) => Promise<T>,
) {
  const change = ({ env }: Node) => writeFileSync(`${env.FAKE}/ps`, crictlPs(SERVERS, OTHERS));
  return await lookAt(
    { kind: "healthy control plane node", commands: COMMANDS, change },
    async (node, said) => {
      using _api = serveRunning(node, { on: living(["m1"], leading) });
      using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
      const result = await action(await readControlPlaneNode(undefined), node);
      const done = node
        .calls()
        .flatMap((call) => / stop --timeout (.*)|^systemctl (restart .*)/.exec(call)?.slice(1) ?? []);
      return { result, said, done: done.filter(Boolean) };
    },
  );
}

const ALL = [...SERVERS, "kubelet"];
const without = (...names: string[]) => ALL.filter((name) => !names.includes(name));

test.each<[string, string[][], string[], string[]]>([
  ["nobody", [[]], [], ["nothing here has read another certificate: nothing restarts"]],
  [
    "all: etcd first, the kubelet last",
    [
      ALL,
      without("etcd"),
      without("etcd", "kube-apiserver"),
      ["kube-scheduler", "kube-vip", "kubelet"],
      ["kube-vip", "kubelet"],
      ["kubelet"],
      [],
    ],
    [
      "5 etcd-id",
      "5 kube-apiserver-id",
      "5 kube-controller-manager-id",
      "5 kube-scheduler-id",
      "5 kube-vip-id",
      "restart kubelet",
    ],
    [...SERVERS.map((name) => `${name}: runs with the certificate on disk`), "m1: renewed its Lease"],
  ],
  [
    "who has ended by itself meanwhile is left alone",
    [["etcd", "kube-apiserver"], []],
    ["5 etcd-id"],
    ["etcd: runs with the certificate on disk"],
  ],
  ["the kubelet alone", [["kubelet"], []], ["restart kubelet"], ["m1: renewed its Lease"]],
])("restarts: %s", async (_, looks, done, proofs) => {
  let look = 0;
  const isBehind = ({ holds }: CaReader) => holds === "an older one";
  const end = await onNode(async (cp) =>
    restartReaders(cp, await adminClient(cp.facts), {
      look: async () => [
        ...looks[Math.min(look++, looks.length - 1)]!.map((name) => reader(name, { holds: "an older one" })),
        reader("etcd", { holds: "today's" }),
      ],
      isBehind,
    }),
  );
  expect(end.done).toEqual(done);
  const told = /runs with the certificate on disk|renewed its Lease|nothing restarts/;
  expect(end.said.filter((line) => told.test(line))).toEqual(proofs);
  const leaders = done.filter((one) => /manager|scheduler/.test(one)).length;
  expect(end.said.filter((line) => line.endsWith(": leads"))).toHaveLength(leaders);
});

test.each<[string, CaReader[], string[]]>([
  ["nobody holds one", [reader("etcd", { holds: "today's" })], []],
  [
    "those that hold one, at once, and the kubelet",
    [
      reader("etcd", { holds: "an older one" }),
      reader("kube-apiserver", { holds: "today's" }),
      reader("kube-vip", { holds: "an older one" }),
    ],
    ["0 etcd-id", "0 kube-vip-id", "restart kubelet"],
  ],
])("one that has expired is in memory: %s", async (_, readers, done) => {
  const end = await onNode((cp) => restartTogether(cp, readers));
  expect([end.result, end.done]).toEqual([true, done]);
});
