/**
 * Markers in all that a person may have written into a manifest, a Node and a kubelet's files: whatever may
 * be a secret there.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { manifest, mirrorPod, type Objects, write } from "./cluster.ts";

/** Each marker says where it was put: "hush-m1-kube-vip-env". */
export const MARKED = /hush-[\w-]+/g;

const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/**
 * A pod's leaves that hold what people choose. `of`: part of each marker. Words of its command only where it
 * is none of kubeadm's servers.
 */
export function markPod<P extends Manifest>(pod: P, of: string): P {
  const mark = (where: string) => `hush-${of}-${where}`;
  const http = (where: string) => ({
    path: "/readyz",
    port: 1,
    httpHeaders: [{ name: "Authorization", value: mark(where) }],
  });
  const copy = structuredClone(pod);
  copy.metadata.annotations = { ...copy.metadata.annotations, "example.org/note": mark("annotation") };
  const [main] = copy.spec.containers as unknown as [Record<string, unknown>];
  Object.assign(main, {
    env: [
      { name: "PASSWORD", value: mark("env") },
      { name: "REF", valueFrom: { secretKeyRef: { name: mark("ref"), key: "k" } } },
    ],
    workingDir: `/${mark("dir")}`,
    startupProbe: { httpGet: http("startup-header") },
    readinessProbe: { exec: { command: ["curl", mark("readiness-exec")] } },
    lifecycle: {
      postStart: { exec: { command: ["sh", "-c", mark("post-start")] } },
      preStop: { httpGet: http("stop-header") },
    },
    securityContext: { seLinuxOptions: { level: mark("level") } },
  });
  if (!SERVERS.includes(String(main.name)))
    main.args = [
      ...((main.args as string[]) ?? []),
      mark("arg"),
      `--secret=${mark("flag")}`,
      "--password",
      mark("word"),
    ];
  const sidecar = {
    name: "proxy",
    image: "example.org/proxy",
    command: ["proxy", mark("sidecar")],
    env: [{ name: "P", value: mark("sidecar-env") }],
  };
  copy.spec.containers.push(sidecar as never);
  Object.assign(copy.spec, { hostAliases: [{ ip: "10.0.0.9", hostnames: [mark("alias")] }] });
  return copy;
}

/** Another one in each leaf than the manifest on disk has. */
export function markObjects(objects: Objects) {
  const vip = "pods/kube-system/kube-vip-m1";
  objects[vip] = mirrorPod("kube-vip");
  for (const [key, object] of Object.entries(objects)) {
    const [, name] = /^pods\/kube-system\/(.*)$/.exec(key) ?? [];
    if (name) objects[key] = markPod(object as Manifest, `etcd-${name}`);
    const [, node] = /^minions\/(.*)$/.exec(key) ?? [];
    if (node) objects[key] = withAnnotation(object as { metadata: object }, `hush-node-${node}`);
  }
}

function withAnnotation(object: { metadata: { annotations?: object } }, text: string) {
  const annotations = { ...object.metadata.annotations, "example.org/owner": text };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

/**
 * The files of a node: its manifests, with other markers than the mirror pods, and what its kubelet is
 * started with.
 */
export function markFiles(root: string, { manifests = true } = {}) {
  for (const name of manifests ? [...SERVERS, "kube-vip"] : [])
    write(
      `${root}/etc/kubernetes/manifests/${name}.yaml`,
      stringify(markPod(manifest(name), `disk-${name}`), { lineWidth: 0 }),
    );
  const flags = `${root}/var/lib/kubelet/kubeadm-flags.env`;
  writeFileSync(
    flags,
    readFileSync(flags, "utf8").replace(
      /"\n$/,
      ' --node-labels=a=hush-kubeadm-flag --cloud-secret=hush-unknown-flag"\n',
    ),
  );
  write(
    `${root}/etc/default/kubelet`,
    'KUBELET_EXTRA_ARGS="--provider-id=hush-extra-flag --register-with-taints=a=hush-extra-taint:NoSchedule"\n',
    0o644,
  );
  const config = `${root}/var/lib/kubelet/config.yaml`;
  writeFileSync(
    config,
    `${readFileSync(config, "utf8")}staticPodURLHeader: {Authorization: [hush-config-header]}\nproviderID: hush-config-provider\n`,
  );
}
