/**
 * A new CA in files of other places that flags name: the API server checks kubelets and its clients by them.
 */
import { expect, test } from "bun:test";
import { chownSync, cpSync } from "node:fs";
import { readText, writeFile } from "../../../shared/files/files.ts";
import { certificatesIn } from "../../../shared/pki/certificate.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { fitNamedCas, fitOwners, unreadable, userOf } from "../../../shared/static-pods/fit-files.ts";
import { wantedManifests } from "../../../shared/static-pods/wanted-manifests.ts";
import { FACTS, healthyCp, manifest, mirrorPod, otherCa, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const CA = "/etc/kubernetes/pki/ca.crt";
const COPY = "/etc/kubernetes/pki/kubelets.pem";

/** A control plane node whose API server checks kubelets by this file. */
async function checkingBy(path: string) {
  const { root, ca } = await healthyCp();
  const data = await pretendData((objects) => {
    const pod = mirrorPod("kube-apiserver");
    pod.spec.containers[0]!.command!.push(`--kubelet-certificate-authority=${path}`);
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  });
  const box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  return { box, ca: ca.cert, cp: controlPlaneOf(data) };
}

test("a copy of the cluster's CA is renewed with it, other CAs of a bundle stay, and a second run changes nothing", async () => {
  const { box, ca: before, cp } = await checkingBy(COPY);
  using _ = box;
  const [now, other] = [(await otherCa()).cert, (await otherCa()).cert];
  writeFile(COPY, `${before}${other}`, { mode: 0o644 });
  expect(fitNamedCas(cp, wantedManifests(cp))).toEqual([]);
  writeFile(CA, now);
  expect(fitNamedCas(cp, wantedManifests(cp))).toEqual([COPY]);
  expect(certificatesIn(readText(COPY)!).map((pem) => pem.trim())).toEqual([now.trim(), other.trim()]);
  expect(readText(`${cp.asideDir}${COPY}`)).toBe(`${before}${other}`);
  expect(fitNamedCas(cp, wantedManifests(cp))).toEqual([]);
});

test("pki/ca.crt itself, another CA's file, and one that is lost are left alone", async () => {
  for (const [path, content] of [
    [CA, undefined],
    [COPY, (await otherCa()).cert],
    [COPY, undefined],
  ] as const) {
    const { box, cp } = await checkingBy(path);
    using _ = box;
    if (content) writeFile(COPY, content);
    writeFile(CA, (await otherCa()).cert);
    expect(fitNamedCas(cp, wantedManifests(cp))).toEqual([]);
    if (content) expect(readText(COPY)).toBe(content);
  }
});

/** A flag of this component names a file with this CA's old certificate and the company's. */
const OTHERS = "/etc/kubernetes/company/clients.crt";

test.each<[name: string, flag: string, file: string, began?: string]>([
  ["kube-apiserver", "client-ca-file", "ca"],
  ["kube-apiserver", "etcd-cafile", "etcd/ca"],
  ["kube-apiserver", "requestheader-client-ca-file", "front-proxy-ca"],
  ["kube-controller-manager", "root-ca-file", "ca"],
  ["kube-controller-manager", "cluster-signing-cert-file", "ca"],
  ["kube-scheduler", "client-ca-file", "ca"],
  ["etcd", "trusted-ca-file", "etcd/ca"],
  ["etcd", "peer-trusted-ca-file", "etcd/ca"],
  // made in an earlier run: etcd's data, or a rescue folder, has the one before
  ["kube-apiserver", "requestheader-client-ca-file", "front-proxy-ca", "2126-01-01T00:00:00Z"],
  ["kube-apiserver", "etcd-cafile", "etcd/ca", "2126-01-01T00:00:00Z"],
])(
  "%s --%s: the current CA takes the old one's place, the company's stays, and a second run changes nothing",
  async (name, flag, file, began = "2026-01-01T00:00:00Z") => {
    const { root } = await healthyCp();
    const data = await pretendData((objects) => {
      const pod = mirrorPod(name);
      const { command = [], volumeMounts = [] } = pod.spec.containers[0]!;
      pod.spec.containers[0]!.command = [
        ...command.filter((word) => !word.startsWith(`--${flag}=`)),
        `--${flag}=${OTHERS}`,
      ];
      pod.spec.containers[0]!.volumeMounts = [
        ...volumeMounts,
        { name: "company", mountPath: "/etc/kubernetes/company" },
      ];
      pod.spec.volumes = [
        ...(pod.spec.volumes ?? []),
        { name: "company", hostPath: { path: "/etc/kubernetes/company" } },
      ];
      objects[`pods/kube-system/${name}-m1`] = pod;
    });
    using box = sandbox();
    cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
    const old = readText(`/etc/kubernetes/pki/${file}.crt`)!;
    const aggregated = { "requestheader-client-ca-file": file === "front-proxy-ca" ? old : "" };
    const known = controlPlaneOf(data);
    const cp = {
      ...{ ...known, cluster: { ...known.cluster, aggregated } },
      rescue: { dir: "/root/kube-pki-repair-20260101T000000", made: new Date(began) },
    };
    const row = CERTS.find((cert) => cert.file === file)!;
    const [made, company] = [
      await issueCa(row, FACTS),
      (await issueCa({ ...row, cn: "company" }, FACTS)).cert,
    ];
    if (file === "etcd/ca") writeFile(`${cp.rescue.dir}/before/etc/kubernetes/pki/${file}.crt`, old);
    const alone = flag === "cluster-signing-cert-file";
    writeFile(OTHERS, alone ? old : `${old}${company}`, { mode: 0o644 });
    const names = name === "etcd" ? ["etcd"] : undefined;
    expect(fitNamedCas(cp, wantedManifests(cp, names))).toEqual([]);
    writeFile(`/etc/kubernetes/pki/${file}.crt`, made.cert);
    writeFile(`/etc/kubernetes/pki/${file}.key`, made.key);
    expect(fitNamedCas(cp, wantedManifests(cp, names))).toEqual([OTHERS]);
    expect(certificatesIn(readText(OTHERS)!).map((pem) => pem.trim())).toEqual(
      [made.cert, ...(alone ? [] : [company])].map((pem) => pem.trim()),
    );
    expect(fitNamedCas(cp, wantedManifests(cp, names))).toEqual([]);
  },
);

const KEY = "/etc/kubernetes/pki/sa.key";
const CP = { facts: FACTS } as never;
const GROUP = process.getgid!();
/** Whose the file is. */
const OWNER = process.getuid!() || 4399;

/** A static pod that mounts this file, and runs as this user. */
const reading = (name: string, securityContext: object, path = KEY) => {
  const pod = structuredClone(manifest("kube-scheduler"));
  pod.spec.securityContext = securityContext;
  pod.spec.volumes = [{ name: "file", hostPath: { path } }];
  return { name, manifest: pod };
};
const user = (runAsUser: number, ...supplementalGroups: number[]) => ({
  ...{ runAsUser, runAsGroup: runAsUser, supplementalGroups },
});

test.each<[string, object, object, object | undefined]>([
  ["nothing: root", {}, {}, { uid: 0, gids: [0] }],
  ["the pod", { runAsUser: 1, runAsGroup: 2 }, {}, { uid: 1, gids: [2] }],
  [
    "the container, before the pod",
    { runAsUser: 1, runAsGroup: 2 },
    { runAsUser: 3, runAsGroup: 4 },
    { uid: 3, gids: [4] },
  ],
  [
    "more groups",
    { runAsUser: 1, supplementalGroups: [5, 6], fsGroup: 7 },
    {},
    { uid: 1, gids: [0, 5, 6, 7] },
  ],
  ["the image, which must not be root", { runAsNonRoot: true }, {}, undefined],
  [
    "the container that it may be root",
    { runAsNonRoot: true },
    { runAsNonRoot: false },
    { uid: 0, gids: [0] },
  ],
  ["a user that is not root", { runAsNonRoot: true }, { runAsUser: 3 }, { uid: 3, gids: [0] }],
])("the user of a pod is said by %s", (_, pod, container, expected) => {
  const spec = { securityContext: pod, containers: [{ name: "x", securityContext: container }] };
  expect(userOf({ spec } as never)).toEqual(expected as never);
});

/** What is done with the file, as it is on the disk, for these readers; who cannot read it together. */
test.each<[string, number, ReturnType<typeof reading>[], string[], string[][]?]>([
  ["root alone", 0o600, [reading("a", {})], []],
  [
    "one user: it is that user's",
    0o600,
    [reading("a", user(4321))],
    ["owner 4321:4321, mode 0600 of KEY: a (user 4321) reads it"],
  ],
  [
    "one user of two pods",
    0o600,
    [reading("a", user(4321)), reading("b", user(4321, 7))],
    ["owner 4321:4321, mode 0600 of KEY: a (user 4321) and b (user 4321) reads it"],
  ],
  [
    "two users with a group in common: it is root's, for that group",
    0o600,
    [reading("a", user(4321, 7)), reading("b", user(4322, 0, 7))],
    ["owner 0:7, mode 0640 of KEY: a (user 4321) and b (user 4322) reads it"],
  ],
  [
    "users of whom one is not of the others' group",
    0o600,
    [reading("a", user(4321, 7)), reading("b", user(4322, 7)), reading("c", user(4323))],
    [],
    [["a", "b", "c"]],
  ],
  [
    "users with root's group alone in common",
    0o600,
    [reading("a", user(4321, 0)), reading("b", user(4322, 0))],
    [],
    [["a", "b"]],
  ],
  [
    "root, and one user",
    0o600,
    [reading("a", user(4321)), reading("b", {})],
    ["owner 4321:4321, mode 0600 of KEY: a (user 4321) reads it"],
  ],
  ["a user who can read it as its owner", 0o400, [reading("a", user(OWNER))], []],
  ["a user who can read it, as all can", 0o644, [reading("a", user(4321))], []],
  ["a user who can read it by the group", 0o640, [reading("a", user(4321, GROUP))], []],
  [
    "a user in the group, which may not read it",
    0o604,
    [reading("a", user(4321, GROUP))],
    ["owner 4321:4321, mode 0600 of KEY: a (user 4321) reads it"],
  ],
  ["a file of another place", 0o600, [reading("a", user(4321), "/srv/key")], []],
  ["a file that is not there", 0o600, [reading("a", user(4321), "/etc/kubernetes/pki/ca.key")], []],
])("whose a key file becomes that is read by %s", async (_, permissions, pods, said, apart = []) => {
  using box = sandbox();
  write(box.dir + KEY, "key", permissions);
  if (process.getuid!() === 0) chownSync(box.dir + KEY, OWNER, GROUP);
  mode.dryRun = true;
  await fitOwners(pods, CP);
  expect(box.said).toEqual(said.map((line) => `would set ${line.replace("KEY", KEY)}`));
  expect(unreadable(pods, CP)).toEqual(apart.map((readers) => ({ path: KEY, readers })));
});

test("a certificate is public: users without a common group can read it", () => {
  const pods = [4321, 4322].map((uid) => reading(String(uid), user(uid), "/etc/kubernetes/pki/ca.crt"));
  expect(unreadable(pods, CP)).toEqual([]);
});
