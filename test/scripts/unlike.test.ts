/**
 * What the tables of healthy clusters (unlike-*.test.ts) can see: a cluster that is not well, or a script
 * that changes something.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { runner } from "../pretend/many-runs.ts";
import { unlike } from "../pretend/unlike.ts";
import type { Place } from "../pretend/unlike-cluster.ts";
import { remove } from "../pretend/unlike-edits.ts";

setDefaultTimeout(300_000);

const runs = runner();
afterAll(() => runs[Symbol.dispose]());

/** What this table can see: a run that changes a file, an object, or what runs. */
test.each([
  [
    "a file",
    "02-control-plane",
    "etc/kubernetes/scheduler.conf",
    (place: Place) => remove(place, "/etc/kubernetes/scheduler.conf"),
  ],
  [
    "an object",
    "02-control-plane",
    "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    (place: Place) => void delete place.objects["clusterrolebindings/kubeadm:cluster-admins"],
  ],
  [
    "what runs",
    "01-etcd",
    "systemctl stop kubelet",
    (place: Place) => remove(place, "/etc/kubernetes/pki/etcd/peer.crt"),
  ],
])(
  "a cluster that is not well: it is seen that a script changes %s",
  async (name, script, changes, change) => {
    using cluster = await unlike({ name, who: "this test", change }, runs);
    const { changed, exitCode } = await cluster.run("00-assess");
    expect({ changed, exitCode }).toEqual({ changed: [], exitCode: name === "an object" ? 0 : 2 });
    expect((await cluster.run(script)).changed).toContain(changes);
  },
);

test("an etcd that came up empty is no cluster that only lacks its kubeadm-config", async () => {
  const change = ({ objects }: Place) => {
    for (const key of Object.keys(objects))
      if (/kubeadm-config|^(deployments|daemonsets)\//.test(key)) delete objects[key];
  };
  using cluster = await unlike({ name: "empty", who: "this test", change }, runs);
  const { exitCode, stdout } = await cluster.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 2,
    stdout: expect.stringContaining("!INCOMPLETE!"),
  });
});
