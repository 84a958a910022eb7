/** The parts of the cluster as the field has it, without building it. */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { parse, parseAllDocuments } from "yaml";
import { hostFiles } from "../../../shared/manifests/command.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { EARLIER_KEY, field, OWN_BALANCER } from "../machine/field.ts";
import { initConfig } from "../machine/kubeadm-config.ts";
import type { Machine } from "../machine/machine.ts";
import { registry } from "../machine/registry.ts";

const profile = field({ controlPlanes: 3, earlierKey: "the key" });

test("a worker's own balancer listens where its kubelet asks, for a name that the API server's certificate has, and leads to each of them", () => {
  const pod = parse(profile.workerStaticPods["api-balancer.yaml"]!);
  const [config] = hostFiles(pod).map(({ path }) => path);
  const text = profile.nodeFiles[config!]!;
  expect(text).toContain(`bind ${OWN_BALANCER}\n`);
  expect([...text.matchAll(/server cp\d 10\.250\.0\.1\d:6443/g)].map(([line]) => line)).toEqual(
    [1, 2, 3].map((n) => `server cp${n} 10.250.0.1${n}:6443`),
  );
  const [, cluster] = parseAllDocuments(
    initConfig({ name: "cp1", ip: "10.250.0.11" } as Machine, profile),
  ).map((one) => one.toJS());
  expect(cluster.apiServer.certSANs).toContain(OWN_BALANCER.split(":")[0]);
  expect(
    profile.nodeLines.some(
      ([name, line]) => name.test("w2") && !name.test("cp1") && line.includes(`https://${OWN_BALANCER}`),
    ),
  ).toBe(true);
});

test("the API server has both service-account keys, today's first, and pulls images always", () => {
  const of = (name: string) =>
    profile.apiServerFlags.filter(([flag]) => flag === name).map(([, value]) => value);
  expect(of("service-account-key-file")).toEqual(["/etc/kubernetes/pki/sa.pub", EARLIER_KEY]);
  expect(of("enable-admission-plugins")[0]).toContain("AlwaysPullImages");
  expect(profile.controlPlaneFiles[EARLIER_KEY]).toBe("the key");
});

test("limits are there before the other nodes join, the policy comes with the workloads", () => {
  const kinds = (yaml: string) => parseAllDocuments(yaml).map((one) => one.toJS().kind);
  expect(kinds(profile.firstObjects)).toEqual(["LimitRange"]);
  expect(profile.objects.flatMap(kinds)).toEqual([
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
  ]);
});

test("the registry has the images by tag and by digest, and nothing else", async () => {
  using box = sandbox();
  const blobs = `${box.dir}/containerd/io.containerd.content.v1.content/blobs/sha256`;
  mkdirSync(blobs, { recursive: true });
  writeFileSync(`${blobs}/aa`, '{"mediaType":"application/vnd.oci.image.manifest.v1+json"}');
  writeFileSync(`${blobs}/bb`, "a layer");
  const server = Bun.serve({
    port: 0,
    fetch: registry(box.dir, { "registry.k8s.io/etcd:3.6.5-0": "sha256:aa" }),
  });
  const ask = async (path: string, method = "GET") => {
    const { status, headers } = await fetch(`${server.url}v2/${path}`, { method });
    return [
      status,
      headers.get("Content-Type"),
      headers.get("Content-Length"),
      headers.get("Docker-Content-Digest"),
    ];
  };
  try {
    const manifest = [200, "application/vnd.oci.image.manifest.v1+json", "58", "sha256:aa"];
    expect(await ask("etcd/manifests/3.6.5-0?ns=registry.k8s.io", "HEAD")).toEqual(manifest);
    expect(await ask("etcd/manifests/sha256:aa?ns=registry.k8s.io")).toEqual(manifest);
    expect(await ask("etcd/blobs/sha256:bb?ns=registry.k8s.io")).toEqual([
      200,
      "application/octet-stream",
      "7",
      "sha256:bb",
    ]);
    expect([
      (await ask("etcd/manifests/3.6.5-0?ns=quay.io"))[0],
      (await ask("../../etcd/passwd"))[0],
    ]).toEqual([404, 404]);
    expect((await ask(""))[0]).toBe(200);
  } finally {
    server.stop(true);
  }
});
