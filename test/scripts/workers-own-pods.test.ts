/**
 * Workers that are not as kubeadm alone makes them: with static pods of their own, without crictl, with their
 * records of pods elsewhere.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse } from "yaml";
import { healthyCp, type Objects, write } from "../pretend/cluster.ts";
import { join, joinToItsEnd, newCa, proxyOf, serve, writeToken } from "../pretend/joining.ts";
import { STATIC_UID } from "../pretend/memory.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveLeases } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const CONFIG = "/var/lib/kubelet/config.yaml";

test.each(["/var/log/pods", "/srv/logs"])(
  "00-assess and join name a worker's own static pod whose manifest is lost, by the records in %s",
  async (logs) => {
    using node = await pretendNode({ kind: "worker" });
    write(`${node.root}${logs}/kube-system_nginx-proxy-w1_${STATIC_UID}/a`, "");
    write(node.root + CONFIG, `${node.read(CONFIG)}podLogsDir: ${logs}\n`);
    const { exitCode, stdout } = await node.run("00-assess");
    expect([exitCode, stdout]).toEqual([
      2,
      expect.stringMatching(/static pod kube-system\/nginx-proxy +!MISSING! .*03-workers\.ts open keeps it/),
    ]);
    expect((await node.run(join())).stderr).toContain(
      "  kube-system/nginx-proxy: a static pod that ran here, and its manifest is lost. ",
    );
    write(
      `${node.root}/etc/kubernetes/manifests/any.yml`,
      JSON.stringify({ ...proxyOf("w1"), metadata: { name: "nginx-proxy", namespace: "kube-system" } }),
    );
    expect((await node.run("00-assess")).stdout).not.toContain("nginx-proxy");
  },
);

/** Its kubelet ran while /etc/kubernetes was deleted: it ended the pod, and its records with it. */
test("00-assess of a worker without its folder of manifests says who still knows what static pods it had", async () => {
  using node = await pretendNode({ kind: "worker" });
  const said = / {2}\/etc\/kubernetes\/manifests +note +missing: .*\.\/bunw scripts\/03-workers\.ts open/;
  // a distribution may have made no such folder, and this worker is well
  rmSync(`${node.root}/etc/kubernetes/manifests`, { recursive: true, force: true });
  expect((await node.run("00-assess")).stdout).not.toMatch(said);
  rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  expect((await node.run("00-assess")).stdout).toMatch(said);
  // its records are still there: the pod itself is named
  write(`${node.root}/var/log/pods/kube-system_nginx-proxy-w1_${STATIC_UID}/a`, "");
  const { stdout } = await node.run("00-assess");
  expect([stdout.includes("static pod kube-system/nginx-proxy"), said.test(stdout)]).toEqual([true, false]);
});

test("join names a static pod of this worker that only etcd's data still knows, by its token file", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root, newCa.cert, "", ["nginx-proxy"]);
  const says = "  kube-system/nginx-proxy: a static pod that ran here, and its manifest is lost. ";
  expect((await node.run(join())).stderr).toContain(says);
  write(
    `${node.root}/etc/kubernetes/manifests/any.yml`,
    JSON.stringify({ ...proxyOf("w1"), metadata: { name: "nginx-proxy", namespace: "kube-system" } }),
  );
  expect((await node.run(join())).stderr).not.toContain("nginx-proxy");
});

test("03-workers open keeps the workers' own static pods, each different one once, and says how one goes back", async () => {
  const etcd = (objects: Objects) => {
    for (const node of ["w1", "w2"]) objects[`pods/kube-system/nginx-proxy-${node}`] = proxyOf(node);
  };
  using node = await pretendNode({ kind: "healthy control plane node", etcd });
  using _api = serveLeases(node, ["m1", "w2"]);
  const { exitCode, stderr } = await node.run("03-workers open");
  const [, file] =
    /nginx-proxy, a static pod of w1, w2: if it is missing in \/etc\/kubernetes\/manifests there, read that file, then, before 03-join there: ssh root@NODE 'mkdir -p \/etc\/kubernetes\/manifests && cat > \/etc\/kubernetes\/manifests\/nginx-proxy\.yaml' < (\S+)\n/.exec(
      stderr,
    ) ?? [];
  expect(node.read("/root/token.d/w1/token").split("\n")[3]).toBe("# pods nginx-proxy");
  expect({ exitCode, file, stderr }).toMatchObject({
    exitCode: 0,
    file: expect.stringMatching(/^\/root\/kube-pki-repair-TIME\/workers\/nginx-proxy\.yaml$/),
  });
  const [kept] = [...new Bun.Glob("root/kube-pki-repair-*/workers/*").scanSync(node.root)];
  const { metadata, spec } = parse(node.read(`/${kept}`));
  expect([metadata.name, spec.hostNetwork, spec.nodeName, spec.containers[0].image]).toEqual([
    "nginx-proxy",
    true,
    undefined,
    "nginx:1.27",
  ]);
});

test("a worker without crictl joins: only a report at the end needs it", async () => {
  using node = await pretendNode({ kind: "worker", without: ["crictl"] });
  writeToken(node.root);
  using api = await serve(newCa);
  const { exitCode, stderr } = await joinToItsEnd(node, api);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("crictl is missing: the join continues"),
  });
});
