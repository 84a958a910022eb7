/** What admission or a webhook has made of a mirror pod is taken back, by what the container is seen to be. */
import { expect, test } from "bun:test";
import { HASH_ANNOTATION, manifestAsItRan } from "../../../shared/manifests/from-mirror-pod.ts";
import type { Ran } from "../../../shared/node/containers.ts";
import type { Manifest, Pod } from "../../../shared/objects/objects.ts";

const HASH = "0123456789abcdef";
const RANGER = "kubernetes.io/limit-ranger";

/** A pod of one container, as its file has it. */
function made(): Manifest {
  const mounts = [
    { name: "pki", mountPath: "/pki/" },
    { name: "root", mountPath: "/" },
  ];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "etcd", annotations: { own: "stays" } },
    spec: {
      containers: [{ name: "etcd", image: "etcd:1", command: ["etcd", "--a", "--b"], volumeMounts: mounts }],
      volumes: [
        { name: "pki", hostPath: { path: "/pki" } },
        { name: "root", hostPath: { path: "/" } },
      ],
    },
  } as unknown as Manifest;
}

/** Its container, of that file. */
const RAN: Ran = {
  name: "etcd",
  podUid: HASH,
  running: true,
  image: "etcd:1",
  args: ["etcd", "--a", "--b"],
  env: [{ name: "PATH", value: "/bin" }],
  mounts: [
    { containerPath: "/pki", hostPath: "/pki" },
    { containerPath: "/", hostPath: "/" },
  ] as never,
  limits: { memory: 0, cpu: 0 },
  uid: 0,
};
const SIDECAR = { name: "sidecar", image: "agent:1" };
const ADDED = "admission added it to the mirror pod, its container ran without";
const MOUNT = { name: "agent", mountPath: "/agent" };
const AGENT = { name: "agent", hostPath: { path: "/agent" } };

// biome-ignore lint/suspicious/noExplicitAny: a container's fields are of every kind
type Change = (container: any, pod: any) => unknown;

/** The manifest afterwards; what is said. */
function corrected(change: Change, ran: readonly Ran[]) {
  const pod = made();
  change(pod.spec.containers[0], pod);
  const mirror = { metadata: { annotations: { [HASH_ANNOTATION]: HASH } } } as unknown as Pod;
  const before = structuredClone(pod);
  const { manifest, corrections: said } = manifestAsItRan(pod, mirror, ran);
  expect(pod).toEqual(before);
  return { manifest, said, before };
}

/** The manifest is as its file again, and each of these is said. */
test.each<[string, Change, string[], (readonly Ran[])?]>([
  ["nothing", () => undefined, []],
  [
    "another registry",
    (one) => Object.assign(one, { image: "corp/etcd:1" }),
    ["image etcd:1, not corp/etcd:1: its container ran with it"],
  ],
  ["a flag more", (one) => one.command.push("--c"), ["command as its container ran it: ---c"]],
  ["a flag less", (one) => one.command.pop(), ["command as its container ran it: +--b"]],
  [
    "flags in another order",
    (one) => one.command.reverse(),
    ["command as its container ran it: in another order"],
  ],
  [
    "words as args",
    (one) => Object.assign(one, { args: ["--c"] }),
    ["command as its container ran it: ---c"],
  ],
  [
    "a variable",
    (one) => Object.assign(one, { env: [{ name: "HTTP_PROXY", value: "x" }] }),
    [`variable HTTP_PROXY left out: ${ADDED}`],
  ],
  [
    "a volume of its own",
    (one, { spec }) => [one.volumeMounts.push(MOUNT), spec.volumes.push(AGENT)],
    [`volume at /agent left out: ${ADDED}`],
  ],
  [
    "a limit of memory",
    (one) => Object.assign(one, { resources: { limits: { memory: "64Mi" } } }),
    [`memory limit 64Mi left out: ${ADDED}`],
  ],
  [
    "a limit of CPU",
    (one) => Object.assign(one, { resources: { limits: { cpu: "1" } } }),
    [`cpu limit 1 left out: ${ADDED}`],
  ],
  [
    "another user, of the pod and of the container",
    (one, { spec }) => {
      spec.securityContext = { runAsUser: 1, runAsNonRoot: true };
      one.securityContext = { runAsGroup: 2 };
    },
    [`runAsUser 1, runAsNonRoot true, runAsGroup 2 left out: ${ADDED}, as root`],
  ],
  [
    "a sidecar",
    (_, { spec }) => spec.containers.push(SIDECAR),
    ["container sidecar left out: admission added it to the mirror pod, the pod ran without"],
  ],
  [
    "AlwaysPullImages, where no container is left",
    (one) => Object.assign(one, { imagePullPolicy: "Always" }),
    ["imagePullPolicy Always is IfNotPresent now: it starts where no registry answers, too"],
    [],
  ],
  [
    "a LimitRange, where no container is left",
    (one, { metadata }) => {
      metadata.annotations[RANGER] =
        "LimitRanger plugin set: cpu, memory limit for container etcd; memory request for init container etcd; cpu limit for container other; nonsense";
      one.resources = { limits: { cpu: "1", memory: "1Gi" }, requests: { memory: "1Gi" } };
    },
    ["cpu limit 1", "memory limit 1Gi", "memory request 1Gi"].map(
      (what) => `${what} left out: the namespace's LimitRange added it`,
    ),
    [],
  ],
])("taken back: %s", (_, change, said, ran = [RAN]) => {
  const after = corrected(change, ran);
  expect(after.said).toEqual(said);
  const { securityContext, containers, ...spec } = after.manifest.spec;
  expect([securityContext ?? {}, spec.volumes]).toEqual([{}, made().spec.volumes]);
  const [{ securityContext: own, imagePullPolicy, ...container }, ...more] = containers as unknown as [
    Record<string, unknown>,
  ];
  expect([own ?? {}, [undefined, "IfNotPresent"].includes(imagePullPolicy as string), more]).toEqual([
    {},
    true,
    [],
  ]);
  expect(container).toEqual(made().spec.containers[0] as never);
  expect(after.manifest.metadata).toEqual(made().metadata);
});

/** It says nothing, and changes nothing. */
test.each<[string, Change, readonly Ran[]]>([
  [
    "a container of another file",
    (one) => Object.assign(one, { image: "corp/etcd:1" }),
    [{ ...RAN, podUid: "other" }],
  ],
  [
    "a container of another name",
    (one) => Object.assign(one, { image: "corp/etcd:1" }),
    [{ ...RAN, name: "other", running: false }],
  ],
  [
    "a runtime that tells nothing",
    (one, { spec }) => {
      spec.securityContext = { runAsUser: 1 };
      one.image = "corp/etcd:1";
      one.env = [{ name: "A", value: "x" }];
      one.volumeMounts.push(MOUNT);
      one.resources = { limits: { memory: "64Mi", cpu: "1" } };
    },
    [{ ...RAN, image: undefined, args: [], env: [], mounts: [], limits: undefined, uid: undefined }],
  ],
  ["no command: the image's own comes first", (one) => Reflect.deleteProperty(one, "command"), [RAN]],
  ["a variable in its command", (one) => one.command.push("$(NAME)"), [RAN]],
  ["a variable that it had", (one) => Object.assign(one, { env: [{ name: "PATH", value: "/bin" }] }), [RAN]],
  [
    "a variable from somewhere else",
    (one) => Object.assign(one, { env: [{ name: "IP", valueFrom: {} }] }),
    [RAN],
  ],
  [
    "a variable of another variable",
    (one) => Object.assign(one, { env: [{ name: "IP", value: "$(A)" }] }),
    [RAN],
  ],
  [
    "limits that it had",
    (one) => Object.assign(one, { resources: { limits: { memory: "64Mi", cpu: "1" } } }),
    [{ ...RAN, limits: { memory: 1, cpu: 1 } }],
  ],
  [
    "a user that it had",
    (one) => Object.assign(one, { securityContext: { runAsUser: 1 } }),
    [{ ...RAN, uid: 1 }],
  ],
  ["root's group alone", (one) => Object.assign(one, { securityContext: { runAsGroup: 2 } }), [RAN]],
  [
    "a second container that has ended with the pod",
    (_, { spec }) => spec.containers.push(SIDECAR),
    [{ ...RAN, running: false }],
  ],
  [
    "other words of a LimitRange",
    (one, { metadata }) => {
      metadata.annotations[RANGER] = "cpu limit for container etcd";
      one.resources = { limits: { cpu: "1" } };
    },
    [],
  ],
])("left as it is: %s", (_, change, ran) => {
  const { manifest, said, before } = corrected(change, ran);
  expect([said, manifest]).toEqual([[], before]);
});

test("a volume that another container mounts, one that is mounted twice, and one that nobody mounts stay", () => {
  const { manifest } = corrected(
    (one, { spec }) => {
      const log = { name: "log", mountPath: "/log" };
      one.volumeMounts.push({ name: "pki", mountPath: "/again" }, MOUNT, log);
      spec.volumes.push(AGENT, { ...AGENT, name: "spare" }, { ...AGENT, name: "log" });
      spec.initContainers = [{ name: "first", image: "etcd:1", volumeMounts: [MOUNT] }];
    },
    [RAN],
  );
  expect(manifest.spec.volumes!.map(({ name }) => name)).toEqual(["pki", "root", "agent", "spare"]);
  expect(manifest.spec.containers[0]!.volumeMounts).toEqual(made().spec.containers[0]!.volumeMounts!);
});

test("of several containers each correction names its own, init containers too; a variable that is left stays", () => {
  const { manifest, said } = corrected(
    (one, { spec, metadata }) => {
      const resources = { limits: { cpu: "1" } };
      spec.initContainers = [{ name: "first", image: "first:1", resources }];
      metadata.annotations[RANGER] = "LimitRanger plugin set: cpu limit for init container first";
      spec.containers.push({ ...SIDECAR });
      one.env = [
        { name: "PATH", value: "/bin" },
        { name: "A", value: "x" },
      ];
    },
    [RAN, { ...RAN, name: "sidecar", image: "agent:2" }, { ...RAN, name: "first", image: "first:2" }],
  );
  expect(said).toEqual([
    "cpu limit 1 left out: the namespace's LimitRange added it",
    "first: image first:2, not first:1: its container ran with it",
    `etcd: variable A left out: ${ADDED}`,
    "sidecar: image agent:2, not agent:1: its container ran with it",
  ]);
  expect(manifest.spec.containers[0]!.env).toEqual([{ name: "PATH", value: "/bin" }]);
});
