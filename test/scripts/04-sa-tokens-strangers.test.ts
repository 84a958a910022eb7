/**
 * A pod's ownerReferences are whatever their author writes, who may create pods in one namespace: part 4 does
 * nothing for him in another.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { status } from "../pretend/api.ts";
import { otherCa } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { knewCa, oldPod, renewPod, serveRunning } from "../pretend/running.ts";
import { STALE_WEB, staleObjects } from "../pretend/stale.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const before = await otherCa();
const LEDGER = "/apis/apps/v1/namespaces/payments/daemonsets/ledger";
const STUCK_WEB = "/apis/apps/v1/namespaces/a-team/daemonsets/web";

/** A DaemonSet of one pod, whose rollout ends at once, or never. */
const daemonSet = (updatedNumberScheduled: number) => ({
  metadata: { generation: 1 },
  spec: { selector: { matchLabels: { app: "x" } }, template: {} },
  status: { observedGeneration: 1, desiredNumberScheduled: 1, updatedNumberScheduled, numberAvailable: 1 },
});

/** Part 4 where a pod of a-team names this owner. */
async function part4(owner: Parameters<typeof oldPod>[1], line = "04-sa-tokens") {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
  using api = serveRunning(node, {
    objects: {
      ...staleObjects(before.cert),
      "/api/v1/namespaces/a-team": { status: { phase: "Active" } },
      "/api/v1/namespaces/a-team/configmaps/kube-root-ca.crt": {
        data: { "ca.crt": node.read("/etc/kubernetes/pki/ca.crt") },
      },
      "/api/v1/namespaces/a-team/pods/mine": oldPod("mine", owner),
      [LEDGER]: daemonSet(1),
      [STUCK_WEB]: daemonSet(0),
    },
    on: ({ method, path }, { objects }) => {
      if (path.includes("%zz")) return status(400, "invalid URL escape"); // as Go's net/http
      if (method === "PATCH" && path === STALE_WEB) renewPod(objects, "/api/v1/namespaces/shop/pods/web-1");
      return undefined;
    },
  });
  const { stderr } = await node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
  return { stderr, changes: api.changes() };
}

test.each(["04-sa-tokens", "04-sa-tokens --only-system --namespace a-team,shop"])(
  "%s: a pod of one namespace restarts no workload of another",
  async (line) => {
    const { changes, stderr } = await part4(
      { kind: "DaemonSet", name: "../../payments/daemonsets/ledger" },
      line,
    );
    expect(changes).not.toContain(`PATCH ${LEDGER}`);
    expect(stderr).toContain("its owner has no valid name, and is not there: nothing would bring it back");
  },
);

test.each([
  ["another UID", { kind: "DaemonSet", name: "web", uid: "of-the-one-before" }],
  ["another kind of the group", { kind: "Web", name: "web" }],
])("an owner of %s than the cluster's is not restarted", async (_, owner) => {
  const { changes, stderr } = await part4(owner);
  expect(changes).not.toContain(`PATCH ${STUCK_WEB}`);
  expect(stderr).toContain(`its ${owner.kind} web is no longer there`);
});

test("no line to type has a shell's words of a tenant", async () => {
  const { stderr } = await part4({ kind: "DaemonSet", name: "../daemonsets/web?;id|sh;#" });
  expect(stderr).not.toMatch(/kubectl [^\n]*;id\|sh/);
});

test.each([
  ["apps/v1", "its owner has no valid name, and is not there"],
  ["example.com/v1", "web\\nnext: id|sh"],
])("no owner of %s begins a line of its own", async (apiVersion, words) => {
  const { stderr } = await part4({ apiVersion, kind: "Web", name: "web\nnext: id|sh" });
  expect(stderr).toContain(words);
  expect(stderr).not.toContain("\nnext: id|sh");
});

test("one pod of a tenant does not keep part 4 from all others", async () => {
  const { changes } = await part4({ kind: "DaemonSet", name: "%zz" });
  expect(changes).toContain(`PATCH ${STALE_WEB}`);
});
