import { expect, test } from "bun:test";
import { manifestDifferences, reduced } from "../../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { FROM_MIRROR_POD } from "../../../shared/static-pods/wanted-manifests.ts";
import { onDisk } from "../../../shared/static-pods/work.ts";
import { manifest, write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

function edited(name: string, edit: (pod: Manifest) => void): Manifest {
  const pod = manifest(name);
  edit(pod);
  return pod;
}

const API = manifest("kube-apiserver");

test.each<[string, (pod: Manifest) => void, string[]]>([
  ["a flag", ({ spec }) => spec.containers[0]!.command!.push("--event-ttl=2h"), ["---event-ttl=2h"]],
  [
    "a variable",
    ({ spec }) => spec.containers[0]!.env!.push({ name: "TZ", value: "UTC" }),
    [expect.stringMatching(/^-env\[TZ\]\.value=\(hidden, [0-9a-f]{8}\)$/)],
  ],
  [
    "a volume",
    ({ spec }) => spec.volumes!.push({ name: "x", hostPath: { path: "/x" } }),
    ["-volumes[x].hostPath.path=/x"],
  ],
  ["a label", ({ metadata }) => Object.assign(metadata.labels!, { team: "a" }), ["-labels.team=a"]],
  ["the order of the flags", ({ spec }) => spec.containers[0]!.command!.reverse(), []],
])("a hand edit that is gone is named, whatever it was: %s", (_, edit, differences) => {
  expect(manifestDifferences(API, edited("kube-apiserver", edit))).toEqual(differences);
});

test("what a repair changes for a time, and etcd's first members, are no differences", () => {
  const manager = manifest("kube-controller-manager");
  expect(manifestDifferences(reduced(manager, "v1.34.4"), manager)).toEqual([]);
  const first = edited("etcd", ({ spec }) =>
    spec.containers[0]!.command!.push("--initial-cluster-state=existing", "--initial-cluster=m1=x,m2=y"),
  );
  expect(manifestDifferences(first, manifest("etcd"))).toEqual([]);
});

test.each([true, false])(
  "a manager that is reduced on one side alone is kept as it is: here %p",
  (isHere) => {
    using box = sandbox();
    const name = "kube-controller-manager";
    const [full, less] = [manifest(name), reduced(manifest(name), "v1.34.4")];
    write(`${box.dir}/etc/kubernetes/manifests/${name}.yaml`, JSON.stringify(isHere ? less : full));
    const one = {
      name,
      source: FROM_MIRROR_POD,
      remark: "",
      manifest: isHere ? full : less,
      corrections: [],
    };
    const node = { kubelet: { staticPodPath: "/etc/kubernetes/manifests" } };
    const { differences, trouble } = onDisk(one, { node, rescue: { made: new Date() }, ran: [] } as never);
    expect({ differences, trouble }).toEqual({ differences: [], trouble: undefined });
  },
);

const [OLDER, NEWER] = ["3.5.21-0", "3.6.5-0"];

test.each<[what: string, name: string, here: string, before: string, running: string[], isStale: boolean]>([
  ["a newer etcd is kept: no older one opens its data", "etcd", NEWER, OLDER, [], false],
  ["beside another program that runs, too", "etcd", NEWER, OLDER, ["kube-proxy"], false],
  ["unless the older etcd's own container runs", "etcd", NEWER, OLDER, ["etcd"], true],
  ["an older etcd", "etcd", OLDER, NEWER, [], true],
  ["another API server, which has no data", "kube-apiserver", NEWER, OLDER, [], true],
])("a manifest from before this repair that differs from its mirror pod: %s", (...row) => {
  const [, name, here, before, running, isStale] = row;
  using box = sandbox();
  const of = (tag: string) =>
    edited(name, ({ spec }) =>
      Object.assign(spec.containers[0]!, { image: `registry.example/${name}:${tag}` }),
    );
  write(`${box.dir}/etc/kubernetes/manifests/${name}.yaml`, JSON.stringify(of(here)));
  const one = { name, source: FROM_MIRROR_POD, remark: "", manifest: of(before), corrections: [] };
  const ran = [
    { name: "etcd", running: running.includes("etcd") },
    ...running.map((other) => ({ name: other, running: true })),
  ];
  const cp = { node: { kubelet: { staticPodPath: "/etc/kubernetes/manifests" } }, ran };
  const rescue = { made: new Date(Date.now() + 60_000) };
  expect(onDisk(one, { ...cp, rescue } as never).trouble !== undefined).toBe(isStale);
});

const MARK = "s3cret-of-the-operator";

/** The same with the mark in place of each text, and in each word of its commands. */
function marked(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => marked(item, key));
  if (typeof value === "object" && value)
    return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, marked(child, name)]));
  if (typeof value !== "string" || key === "name") return value;
  return key === "command" || key === "args" ? value.replace(/(=|$).*/, `=${MARK}`) : MARK;
}

/** A static pod of somebody's own, with what holds secrets in the field. */
const OWN: Manifest = {
  ...manifest("kube-vip"),
  metadata: { ...manifest("kube-vip").metadata, annotations: { "example.org/token": "x" } },
  spec: {
    containers: [
      {
        name: "proxy",
        image: "proxy:1",
        command: ["/bin/proxy", "--password=x", "-px", "--verbose"],
        args: ["x"],
        env: [{ name: "bgp_peerpass", value: "x" }],
        livenessProbe: {
          httpGet: {
            path: "/healthz",
            port: 80,
            httpHeaders: [{ name: "Authorization", value: "Bearer x" }],
          },
        },
      },
    ],
    hostAliases: [{ ip: "10.0.0.1", hostnames: ["x"] }],
  } as unknown as Manifest["spec"],
};

test("no text of a static pod that may be a secret is in a line, and what differs is seen all the same", () => {
  const now = marked(OWN) as Manifest;
  const open = /^[+-](image|livenessProbe\.httpGet\.path|labels\.\S+?)=/;
  const differences = manifestDifferences(now, OWN);
  expect(differences.filter((line) => line.includes(MARK) && !open.test(line))).toEqual([]);
  for (const what of [
    "env[bgp_peerpass].value",
    "livenessProbe.httpGet.httpHeaders[Authorization].value",
    "annotations.example.org/token",
    "--password",
  ])
    expect(
      differences
        .filter((line) => line.includes(what))
        .map((line) => line[0])
        .sort(),
    ).toEqual(["+", "-"]);
  expect(manifestDifferences(now, structuredClone(now))).toEqual([]);
});

test("a user and a password in an address of a server's flag are hidden, too", () => {
  const after = edited("kube-apiserver", ({ spec }) =>
    spec.containers[0]!.command!.push(`--etcd-servers=https://me:${MARK}@10.0.0.1:2379`),
  );
  expect(manifestDifferences(after, API)).toEqual([
    expect.stringMatching(/^\+--etcd-servers=\(hidden, [0-9a-f]{8}\)$/),
  ]);
});
