/**
 * A mirror pod is what the API server's admission made of a manifest, which the kubelet never reads again. So
 * what comes back is what the containers ran: without AlwaysPullImages' policy, a LimitRange's limits,
 * Kyverno's registry, a webhook's variables and sidecars.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { parse } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { healthyCp, manifest, mirrorPod, type Objects } from "../pretend/cluster.ts";
import { afterPart1 } from "../pretend/in-part2.ts";
import { CRICTL, crictlPs, type NodeOptions, pretendNode, staticUid } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const LIMITED =
  "LimitRanger plugin set: cpu, memory limit for container NAME; ephemeral-storage request for container NAME";
const SERVERS = ["etcd", "kube-apiserver"] as const;

/** The mirror pod of a manifest that went through AlwaysPullImages and a LimitRange. */
function limited(name: string): Manifest {
  const pod = mirrorPod(name);
  const [container] = pod.spec.containers;
  const { requests } = container!.resources as { requests: object };
  container!.imagePullPolicy = "Always";
  container!.resources = {
    limits: { cpu: "500m", memory: "128Mi" },
    requests: { ...requests, "ephemeral-storage": "1Gi" },
  };
  Object.assign(pod.metadata.annotations!, {
    "kubernetes.io/config.hash": staticUid(name),
    "kubernetes.io/limit-ranger": LIMITED.replaceAll("NAME", name),
  });
  return pod;
}

/** And through webhooks. */
function mutated(name: string): Manifest {
  const pod = limited(name);
  delete pod.metadata.annotations!["kubernetes.io/limit-ranger"];
  const [container] = pod.spec.containers;
  container!.resources = (manifest(name).spec.containers[0] as typeof container)!.resources;
  (container!.resources as { limits?: object }).limits = { memory: "64Mi" };
  container!.image = container!.image!.replace("registry.k8s.io", "registry.corp");
  container!.env = [{ name: "HTTP_PROXY", value: "http://proxy" }];
  container!.command!.push("--v=9");
  container!.volumeMounts!.push({ name: "agent", mountPath: "/agent" });
  pod.spec.volumes!.push({ name: "agent", hostPath: { path: "/srv/agent", type: "Directory" } });
  pod.spec.containers.push({ name: "sidecar", image: "agent:1" });
  pod.spec.securityContext = {
    ...(pod.spec.securityContext as object),
    runAsNonRoot: true,
    runAsUser: 65532,
  };
  return pod;
}

/** Its registry alone. */
function rewritten(name: string): Manifest {
  const pod = limited(name);
  pod.spec.containers[0]!.image = pod.spec.containers[0]!.image!.replace("registry.k8s.io", "registry.corp");
  return pod;
}

const as = (change: (name: string) => Manifest) => (objects: Objects) => {
  for (const name of SERVERS) objects[`pods/kube-system/${name}-m1`] = change(name);
};

/** What the runtime says of a container that was started by kubeadm's own manifest. */
function inspected(name: string) {
  const { image, command, volumeMounts = [] } = manifest(name).spec.containers[0]!;
  const inspect = {
    status: {
      mounts: volumeMounts.map(({ mountPath }) => ({ containerPath: mountPath, hostPath: mountPath })),
    },
    info: {
      config: { image: { user_specified_image: image } },
      runtimeSpec: {
        process: {
          args: command,
          env: ["PATH=/bin", "KUBERNETES_PORT=tcp://10.96.0.1:443"],
          user: { uid: 0 },
        },
        linux: { resources: {} },
      },
    },
  };
  return { command: `${CRICTL} inspect -o json ${name}-id`, stdout: JSON.stringify(inspect) };
}

const RUNTIME: NodeOptions["commands"] = [
  { command: `${CRICTL} ps -a -o json`, stdout: crictlPs([...SERVERS, "kube-proxy"]) },
  ...SERVERS.map(inspected),
];
const ETCD = "/etc/kubernetes/manifests/etcd.yaml";

test("what admission says of itself is taken back, also where no container is left, and each correction is said", async () => {
  using node = await afterPart1({ etcd: as(limited) });
  using _etcd = node.etcd;
  expect(parse(node.read(ETCD))).toEqual(manifest("etcd"));
  const { stderr } = await node.run("02-control-plane --dry-run");
  for (const words of [
    "imagePullPolicy Always is IfNotPresent now: it starts where no registry answers, too",
    "cpu limit 500m left out: the namespace's LimitRange added it",
    "memory limit 128Mi left out: the namespace's LimitRange added it",
    "ephemeral-storage request 1Gi left out: the namespace's LimitRange added it",
  ])
    expect(stderr).toContain(`  kube-apiserver: ${words}\n`);
});

test("what webhooks have changed comes back as the containers ran it; part 2 still knows it when they are gone", async () => {
  const [ps, ...inspects] = RUNTIME!;
  const gone = { ...ps!, stdout: crictlPs(["kube-proxy"]) };
  const flag = '"$FAKE/gone"';
  const runtime = {
    command: ps!.command,
    does: `if test -e ${flag}; then printf %s '${gone.stdout}'; exit 0; fi`,
    stdout: ps!.stdout!,
  };
  using node = await afterPart1({ etcd: as(mutated), commands: [runtime, ...inspects] });
  using _etcd = node.etcd;
  expect(parse(node.read(ETCD))).toEqual(manifest("etcd"));
  await Bun.write(`${node.env.FAKE}/gone`, "");
  const { stderr } = await node.run("02-control-plane --dry-run");
  const { image } = manifest("kube-apiserver").spec.containers[0]!;
  for (const words of [
    "container sidecar left out: admission added it to the mirror pod, the pod ran without",
    `image ${image}, not ${image!.replace("registry.k8s.io", "registry.corp")}: its container ran with it`,
    "command as its container ran it: ---v=9",
    "variable HTTP_PROXY left out: admission added it to the mirror pod, its container ran without",
    "volume at /agent left out: admission added it to the mirror pod, its container ran without",
    "memory limit 64Mi left out: admission added it to the mirror pod, its container ran without",
    "runAsUser 65532, runAsNonRoot true left out: admission added it to the mirror pod, its container ran without, as root",
  ])
    expect(stderr).toContain(`  kube-apiserver: ${words}\n`);
});

test("a container of another manifest counts for nothing: it is another pod", async () => {
  const other = crictlPs([...SERVERS]).replaceAll(staticUid("etcd"), staticUid("an older etcd.yaml"));
  using node = await afterPart1({
    etcd: as(rewritten),
    commands: [{ command: `${CRICTL} ps -a -o json`, stdout: other }, ...SERVERS.map(inspected)],
  });
  using _etcd = node.etcd;
  expect(node.read(ETCD)).toContain("image: registry.corp/");
});

test("on a healthy node whose mirror pods admission has changed, nothing is damaged", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: as(mutated),
    commands: RUNTIME!,
  });
  const { exitCode, stdout } = await node.run("00-assess --json");
  const { damage, verdict } = JSON.parse(stdout);
  expect(
    damage.filter(({ id, state }: Record<string, string>) => id === "manifest" && state !== "ok"),
  ).toEqual([]);
  expect([exitCode, verdict]).toEqual([0, "nothing is damaged on this node"]);
});
