/** Which files of static pods are lost, who names each, and what it means. */
import { expect, test } from "bun:test";
import {
  flagOfLostFile,
  hasStandIn,
  lostFiles,
  restoredWhen,
  stopsAll,
} from "../../../shared/facts/lost-files.ts";
import type { ContainerSpec, Volume } from "../../../shared/objects/objects.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

type Wanted = Parameters<typeof lostFiles>[0][number];
const OWN = "/etc/own";

/** A static pod with these words; `volumes`: path on the host and in the container → its type. */
function pod(name: string, command: string[], volumes: Record<string, string> = { [OWN]: "" }): Wanted {
  const all = Object.entries(volumes);
  const mounts = all.map(([path]) => ({ name: path, mountPath: path }));
  return {
    name,
    manifest: {
      spec: {
        containers: [{ name, command: [name, ...command], volumeMounts: mounts } as ContainerSpec],
        volumes: all.map(([path, type]) => ({ name: path, hostPath: { path, type } }) as Volume),
      },
    },
  };
}

/** [path, who names it, kind] */
const shown = (files: ReturnType<typeof lostFiles>) =>
  files.map((file) => [file.path, flagOfLostFile(file), file.kind]);
const API = "kube-apiserver";

test.each<[string, Wanted, Record<string, string>, string[][]]>([
  [
    "a flag's file",
    pod(API, [`--a=${OWN}/a`], { [OWN]: "DirectoryOrCreate" }),
    {},
    [[`${OWN}/a`, `${API} --a`, "file"]],
  ],
  ["a flag's file that is there", pod(API, [`--a=${OWN}/a`]), { [`${OWN}/a`]: "" }, []],
  [
    "a file that a script makes",
    pod(API, ["--client-ca-file=/etc/kubernetes/pki/ca.crt"], { "/etc/kubernetes/pki": "" }),
    {},
    [],
  ],
  ["a volume that is there", pod(API, []), { [`${OWN}/a`]: "" }, []],
  ["a volume", pod(API, []), {}, [[OWN, `${API} volume ${OWN}`, "file"]]],
  [
    "a volume that is a folder",
    pod(API, [], { [OWN]: "Directory" }),
    {},
    [[OWN, `${API} volume ${OWN}`, "folder"]],
  ],
  ["a folder that the runtime makes", pod(API, [], { [OWN]: "DirectoryOrCreate" }), {}, []],
  [
    "a log that the program makes",
    pod(API, [`--audit-log-path=${OWN}/l`], { [OWN]: "DirectoryOrCreate" }),
    {},
    [],
  ],
  [
    "a file below a lost folder says more than the folder, and a flag more than its volume",
    pod(API, [`--a=${OWN}/a`, `--b=${OWN}/b`], { [OWN]: "", [`${OWN}/b`]: "File" }),
    {},
    [
      [`${OWN}/a`, `${API} --a`, "file"],
      [`${OWN}/b`, `${API} --b`, "file"],
    ],
  ],
  [
    "of a pod that kubeadm did not make, configuration counts alone",
    pod("haproxy", [`--a=${OWN}/a`, "--b=/usr/b"], {
      [OWN]: "DirectoryOrCreate",
      "/usr": "DirectoryOrCreate",
    }),
    {},
    [[`${OWN}/a`, "haproxy --a", "file"]],
  ],
  [
    "nor a socket or folder of it",
    pod("vip", [], { [OWN]: "DirectoryOrCreate", "/etc/s": "Socket" }),
    {},
    [],
  ],
  ["but a folder without a type", pod("vip", []), {}, [[OWN, `vip volume ${OWN}`, "file"]]],
  [
    "files that a file names, and those that these name",
    pod(API, [`--a=${OWN}/a.yaml`], { [OWN]: "DirectoryOrCreate" }),
    {
      [`${OWN}/a.yaml`]: "plugins: [{path: b.yaml}, {endpoint: 'unix:///etc/own/s'}]",
      [`${OWN}/b.yaml`]: `tokenFile: ${OWN}/c`,
    },
    [
      [`${OWN}/c`, `${OWN}/b.yaml`, "file"],
      [`${OWN}/s`, `${OWN}/a.yaml`, "socket"],
    ],
  ],
  [
    "a file that is not mounted is in the image",
    pod(API, [`--a=${OWN}/a.yaml`], { [OWN]: "DirectoryOrCreate" }),
    { [`${OWN}/a.yaml`]: "path: /usr/share/b" },
    [],
  ],
  [
    "a file that names itself",
    pod(API, [`--a=${OWN}/a.yaml`], { [OWN]: "DirectoryOrCreate" }),
    { [`${OWN}/a.yaml`]: "path: a.yaml" },
    [],
  ],
  [
    "what a certificate says is not read",
    pod(API, [`--a=${OWN}/a.pem`], { [OWN]: "DirectoryOrCreate" }),
    { [`${OWN}/a.pem`]: "path: b" },
    [],
  ],
])("%s", (_, wanted, files, expected) => {
  using box = sandbox();
  for (const [path, text] of Object.entries(files)) write(box.dir + path, text);
  expect(shown(lostFiles([wanted], new Set(["/etc/kubernetes/pki", "/etc/kubernetes/pki/ca.crt"])))).toEqual(
    expected,
  );
});

test("files that name each other end, four deep", () => {
  using box = sandbox();
  const at = (depth: number) => `${OWN}/${depth}.yaml`;
  for (let depth = 0; depth < 9; depth++)
    write(box.dir + at(depth), `path: ${at(depth + 1)}\ntokenFile: lost${depth}`);
  const lost = lostFiles([pod(API, [`--a=${at(0)}`], { [OWN]: "DirectoryOrCreate" })], new Set());
  expect(lost.map(({ path }) => path).sort()).toEqual([0, 1, 2, 3].map((depth) => `${OWN}/lost${depth}`));
});

const SOCKET = `${OWN}/s.sock`;
const asks = pod(API, [`--kms-endpoint=unix://${SOCKET}`], { [OWN]: "DirectoryOrCreate" });

test.each<[string, Wanted[], string]>([
  ["a static pod that names it", [pod("kms", [`--listen=unix://${SOCKET}`])], "the static pod kms"],
  ["none", [], "what serves it"],
  ["a pod of kubeadm is none", [pod("etcd", [`--listen=unix://${SOCKET}`])], "what serves it"],
  ["one that names another socket", [pod("kms", [`--listen=unix://${OWN}/t.sock`])], "what serves it"],
  ["one that only mounts it", [pod("kms", [], { [SOCKET]: "Socket" })], "what serves it"],
])("who serves a lost socket: %s", (_, others, served) => {
  using _box = sandbox();
  const [lost] = lostFiles([asks], new Set(), [asks, ...others]);
  expect([lost!.kind, lost!.without, restoredWhen(lost!), stopsAll(lost!)]).toEqual([
    "socket",
    "kube-apiserver gets no answer from the plugin that serves it",
    `not there until ${served} runs`,
    false,
  ]);
});

test.each([
  ["--audit-policy-file", true, false, "part 2 puts a replacement there, which records metadata only"],
  ["--tracing-config-file", false, true, "kube-apiserver does not start"],
  ["--toString", false, true, "kube-apiserver does not start"],
])("what the loss of %s means", (flag, isPolicy, stops, without) => {
  using _box = sandbox();
  const [lost] = lostFiles([pod(API, [`${flag}=${OWN}/a`], { [OWN]: "DirectoryOrCreate" })], new Set());
  expect([hasStandIn(lost!), stopsAll(lost!), lost!.without, restoredWhen(lost!)]).toEqual([
    isPolicy,
    stops,
    without,
    undefined,
  ]);
});

test.each([
  ["haproxy", "--config", false, "haproxy does not start"],
  ["other-apiserver", "--audit-policy-file", false, "other-apiserver does not start"],
  ["kube-scheduler", "--config", true, "part 2 puts a replacement there, with kube-scheduler's defaults"],
])("%s has a replacement for its %s: %p", (name, flag, has, without) => {
  using _box = sandbox();
  const [lost] = lostFiles([pod(name, [`${flag}=${OWN}/a`], { [OWN]: "DirectoryOrCreate" })], new Set());
  expect([hasStandIn(lost!), stopsAll(lost!), lost!.without]).toEqual([
    has,
    !has,
    expect.stringContaining(without),
  ]);
});
