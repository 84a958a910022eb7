/**
 * The API server without a flag whose file is lost for good, and what brings lost files back. When such a file is here
 * again, its flag and its volume come back, and the word ends.
 */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { inLines } from "../../../shared/again.ts";
import type { LostFile } from "../../../shared/facts/lost-file.ts";
import { failOf, Refused } from "../../../shared/fail.ts";
import { commandOf } from "../../../shared/manifests/command.ts";
import {
  noTypedOptions,
  savedOptionsOf,
  saveTypedOptions,
  type TypedOptions,
  useTypedOptions,
} from "../../../shared/node/words.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import {
  endGivenUp,
  filesStillNeeded,
  flagsToComeBack,
  keepBefore,
  refuseLost,
  refuseNoChoice,
  restoreCommands,
  restoreFlags,
  startWithout,
  wayWithoutFiles,
} from "../../../shared/static-pods/without-files.ts";
import { FACTS, manifest, write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const CONF = "/etc/kubernetes/own";

/** The API server with these flags, and with volumes of these folders or files. */
function server(flags: readonly string[], volumes: readonly string[]): Manifest {
  const pod = structuredClone(manifest("kube-apiserver"));
  const [container] = pod.spec.containers;
  container!.command = ["kube-apiserver", ...flags];
  pod.spec.volumes = volumes.map((path) => ({ name: path, hostPath: { path } }));
  container!.volumeMounts = volumes.map((path) => ({ name: path, mountPath: path }));
  return pod;
}

interface Row {
  flags: string[];
  volumes?: string[];
  drop: string[];
  /** Files that are here. */
  here?: string[];
  /** What is left. */
  left: { flags: string[]; volumes?: string[] };
}

const TRACING = `--tracing-config-file=${CONF}/trace.yaml`;
const KEYS = "--service-account-key-file";

test.each<[string, Row]>([
  [
    "a flag is dropped with its volume",
    {
      flags: ["--a=1", TRACING],
      volumes: [CONF],
      drop: ["tracing-config-file"],
      left: { flags: ["--a=1"], volumes: [] },
    },
  ],
  [
    "a flag whose file is here stays",
    {
      flags: [TRACING],
      volumes: [CONF],
      drop: ["tracing-config-file"],
      here: [`${CONF}/trace.yaml`],
      left: { flags: [TRACING], volumes: [CONF] },
    },
  ],
  [
    "a flag that nobody named stays",
    {
      flags: [TRACING],
      volumes: [CONF],
      drop: ["oidc-ca-file"],
      left: { flags: [TRACING], volumes: [CONF] },
    },
  ],
  [
    "a folder that has something else stays",
    {
      flags: [TRACING],
      volumes: [CONF],
      drop: ["tracing-config-file"],
      here: [`${CONF}/other`],
      left: { flags: [], volumes: [CONF] },
    },
  ],
  [
    "a lost folder that another flag needs stays",
    {
      flags: [TRACING, `--oidc-ca-file=${CONF}/oidc.crt`],
      volumes: [CONF],
      drop: ["tracing-config-file"],
      left: { flags: [`--oidc-ca-file=${CONF}/oidc.crt`], volumes: [CONF] },
    },
  ],
  [
    "the volume of the file alone goes",
    {
      flags: [TRACING],
      volumes: [`${CONF}/trace.yaml`, "/other"],
      drop: ["tracing-config-file"],
      left: { flags: [], volumes: ["/other"] },
    },
  ],
  [
    "of a flag that is given twice the one of the lost file goes",
    {
      flags: [`${KEYS}=${CONF}/old.pub`, `${KEYS}=${CONF}/sa.pub`],
      volumes: [CONF],
      drop: ["service-account-key-file"],
      here: [`${CONF}/sa.pub`],
      left: { flags: [`${KEYS}=${CONF}/sa.pub`], volumes: [CONF] },
    },
  ],
  [
    "a flag and its value in two words",
    {
      flags: ["--tracing-config-file", `${CONF}/trace.yaml`, "--a=1"],
      volumes: [CONF],
      drop: ["tracing-config-file"],
      left: { flags: ["--a=1"], volumes: [] },
    },
  ],
  [
    "without its authorization's file the API server has the usual authorization",
    {
      flags: [`--authorization-config=${CONF}/a.yaml`],
      volumes: [CONF],
      drop: ["authorization-config"],
      left: { flags: ["--authorization-mode=Node,RBAC"], volumes: [] },
    },
  ],
])("%s", (_, { flags, volumes = [], drop, here = [], left }) => {
  using box = sandbox();
  for (const path of here) write(box.dir + path, "x");
  const before = server(flags, volumes);
  const copy = structuredClone(before);
  const after = startWithout(before, { flagsToDrop: drop });
  expect(before).toEqual(copy);
  const names = (of: readonly { name: string }[] = []) => of.map(({ name }) => name);
  expect([
    commandOf(after).slice(1),
    names(after.spec.volumes),
    names(after.spec.containers[0]!.volumeMounts),
  ]).toEqual([left.flags, left.volumes ?? [], left.volumes ?? []]);
});

test("what is given up is said once, however often the manifest is looked at", () => {
  using box = sandbox();
  const flag = `--egress-selector-config-file=${CONF}/egress.yaml`;
  for (const _ of [1, 2])
    startWithout(server([flag], [CONF]), { flagsToDrop: ["egress-selector-config-file"] });
  expect(box.said).toEqual([
    `kube-apiserver starts WITHOUT "${CONF}/egress.yaml" (--egress-selector-config-file), as you chose: the API server reaches nodes and webhooks without its proxy`,
  ]);
});

const lost = (namedBy: string, more: Partial<LostFile> = {}): LostFile =>
  ({
    path: `${CONF}/${namedBy.replace(/^-+/, "")}`,
    program: "kube-apiserver",
    namedBy,
    kind: "file",
    without: "it does not start",
    inside: "",
    ...more,
  }) as LostFile;

test("flags without which the API server is none are refused", async () => {
  const refused = await failOf(async () => refuseNoChoice(["etcd-cafile", "oidc-ca-file", "constructor"]));
  expect([refused?.message, refused?.hint]).toEqual([
    'The API server cannot start without "etcd-cafile", "constructor"',
    expect.stringContaining("names the flags that it can start without"),
  ] as never);
  expect(refuseNoChoice(["oidc-ca-file"])).toBeUndefined();
});

test("a refusal offers what can be given up, each flag once and of the API server alone", () => {
  const some = [lost("--tracing-config-file"), lost("--tracing-config-file"), lost("--etcd-cafile")];
  expect(wayWithoutFiles(some)).toMatch(
    /^\. If nobody has them: .*--start-without tracing-config-file starts the API server without the flags that name them \(--tracing-config-file: no traces\)$/,
  );
  const others = [lost("--etcd-cafile"), lost("--oidc-ca-file", { program: "etcd" })];
  expect(wayWithoutFiles(others)).toBe("");
  const oidc = [lost("--oidc-ca-file"), ...others];
  expect(filesStillNeeded(oidc, { flagsToDrop: ["oidc-ca-file"] })).toEqual(others);
});

const CP = { cluster: { nodes: [] }, node: { name: "m1" }, facts: FACTS } as never;

test("a lost file stops the start, an audit policy and a socket do not", async () => {
  using box = sandbox();
  const audit = lost("--audit-policy-file");
  const socket = lost("--kms", { kind: "socket", path: "/run/kms.sock", servedBy: "kms" } as never);
  expect(refuseLost([audit, socket], CP)).toEqual([audit]);
  expect(box.said).toEqual([expect.stringMatching(/^\/run\/kms\.sock: .*; without it it does not start$/)]);
  const refused = await failOf(async () => refuseLost([audit, lost("--oidc-ca-file")], CP, Refused));
  expect(refused).toBeInstanceOf(Refused);
  expect(refused!.message).toBe(
    `Cannot start kube-apiserver: "${CONF}/oidc-ca-file" (--oidc-ca-file) missing`,
  );
});

const PKI = "/etc/kubernetes/pki";

test("no copy is sent for from a node that is said to be lost or away; one whose keys are lost comes last, with a doubt", () => {
  using _ = sandbox();
  const way = (said: TypedOptions) => {
    noTypedOptions();
    useTypedOptions(said);
    const all = restoreCommands([lost("--oidc-ca-file")], { mounted: [], others: ["m2", "m3"], pki: PKI });
    return inLines(all).filter((line) => line.includes("ssh "));
  };
  const from = (name: string, note: string) => [
    `ssh root@${name} tar -C / -cf - etc/kubernetes/own/oidc-ca-file | tar -C / -xpkf - etc/kubernetes/own/oidc-ca-file   # ${note}`,
  ];
  expect(way({})).toEqual(from("m2", "m2, m3: usually the same on these nodes"));
  expect(way({ "lost-on": ["m2"] })).toEqual(from("m3", "m3: usually the same on these nodes"));
  expect(way({ lost: ["m2"], without: ["m3"] })).toEqual([]);
  expect(way({ "lost-on": ["m2", "m3"] })).toEqual(
    from("m2", "m2, m3: keys are lost there, as you said; only if the file is not"),
  );
});

test.each<[string, LostFile[], { mounted?: string[]; others?: string[] }, string[]]>([
  ["nothing is lost", [], {}, []],
  ["nobody else has it", [lost("--oidc-ca-file")], {}, ["00-salvage.ts files --backup DIR"]],
  [
    "nobody else has the encryption configuration",
    [lost("--encryption-provider-config")],
    {},
    ["00-salvage.ts files --backup DIR", "00-salvage.ts disk"],
  ],
  [
    "a process still has it",
    [lost("--oidc-ca-file")],
    { mounted: [CONF] },
    [`00-salvage.ts files   # still mounted: ${CONF}`, "00-salvage.ts files --backup DIR"],
  ],
  [
    "another control plane node has it",
    [lost("--oidc-ca-file")],
    { others: ["m2", "m3"] },
    [
      "- etc/kubernetes/own/oidc-ca-file   # m2, m3: usually the same on these nodes",
      "00-salvage.ts files --backup DIR",
    ],
  ],
  [
    "a copy of the cluster's CA",
    [lost("--kubelet-certificate-authority")],
    {},
    [
      "00-salvage.ts files --backup DIR",
      `install -D -m 644 ${PKI}/ca.crt ${CONF}/kubelet-certificate-authority`,
    ],
  ],
  [
    "a socket that nobody here serves",
    [lost("volume kms", { kind: "socket", path: "/run/kms.sock" })],
    {},
    ["start what serves /run/kms.sock"],
  ],
  [
    "a socket that a static pod serves",
    [lost("volume kms", { kind: "socket", servedBy: "kms" } as never)],
    {},
    [],
  ],
])(
  "what brings lost files back, the surest way first: %s",
  (_, files, { mounted = [], others = [] }, expected) => {
    const lines = inLines(restoreCommands(files, { mounted, others, pki: PKI })).map((line) =>
      line.replace(/ +#/, "   #"),
    );
    expect(lines).toEqual(expected.map((part) => expect.stringContaining(part)) as never);
  },
);

const AUTHORIZATION = `--authorization-config=${CONF}/authz.yaml`;
const KEY = (name: string) => `--service-account-key-file=${CONF}/${name}.pub`;
const RESCUE = { dir: "/root/kube-pki-repair-20260101T000000", made: new Date("2026-01-01T00:00:00Z") };

interface Back {
  flags: string[];
  /** Files that are here when the API server first starts. */
  here?: string[];
  back: string[];
  /** What it starts with when they are back, in any order. */
  left: string[];
}

test.each<[string, Back]>([
  ["its only file, with the volume", { flags: [TRACING], back: ["trace.yaml"], left: [TRACING] }],
  [
    "one of two",
    {
      flags: [TRACING, AUTHORIZATION],
      back: ["trace.yaml"],
      left: [TRACING, "--authorization-mode=Node,RBAC"],
    },
  ],
  [
    "authorization, without its stand-in",
    { flags: [AUTHORIZATION], back: ["authz.yaml"], left: [AUTHORIZATION] },
  ],
  [
    "one value of a flag that is given twice",
    { flags: [KEY("a"), KEY("b")], here: ["a.pub"], back: ["b.pub"], left: [KEY("a"), KEY("b")] },
  ],
  ["none of them", { flags: [TRACING], back: [], left: [] }],
])("back: %s", (_, { flags, here = [], back, left }) => {
  using box = sandbox();
  const put = (names: string[]) => {
    for (const name of names) write(`${box.dir}${CONF}/${name}`, "x");
  };
  put(here);
  mkdirSync(`${box.dir}${RESCUE.dir}`, { recursive: true });
  const before = server(flags, [CONF]);
  const names = [...new Set(flags.map((flag) => /^--([\w-]+)/.exec(flag)![1]!))];
  const runs = startWithout(before, { flagsToDrop: names });
  keepBefore(before, runs, { rescue: RESCUE, flagsToDrop: names });
  useTypedOptions({ "start-without": names });
  const lost = flags
    .map((flag) => flag.split("=")[1]!)
    .filter((path) => !here.includes(path.split("/").at(-1)!));
  saveTypedOptions(
    "m1",
    new Map(
      names.map((name) => [
        name,
        lost.filter((path) => before.spec.containers[0]!.command!.includes(`--${name}=${path}`)),
      ]),
    ),
  );
  put(back);
  const wanted = restoreFlags(runs);
  expect(commandOf(wanted).slice(1).toSorted()).toEqual(left.toSorted());
  expect(wanted.spec.volumes).toEqual(
    left.length > 0 && (back.length > 0 || here.length > 0) ? before.spec.volumes : [],
  );
  expect(flagsToComeBack(runs, wanted).map(({ path }) => path)).toEqual(
    back.map((name) => `${CONF}/${name}`),
  );
  expect(restoreFlags(wanted)).toBe(wanted);
});

test("a flag that goes for another reason, as sa-old.pub's after part 4, leaves no manifest of before", () => {
  using box = sandbox();
  keepBefore(server([KEY("a"), KEY("sa-old")], [CONF]), server([KEY("a")], [CONF]), {
    rescue: RESCUE,
    flagsToDrop: [],
  });
  expect(existsSync(`${box.dir}${RESCUE.dir}`)).toBe(false);
});

test("the word ends where all its files and flags are here; without a manifest of before, nothing is made up", () => {
  using box = sandbox();
  const path = `${CONF}/trace.yaml`;
  useTypedOptions({ "start-without": ["tracing-config-file"] });
  saveTypedOptions("m1", new Map([["tracing-config-file", [path]]]));
  write(`${box.dir}${path}`, "x");
  const runs = server([], [CONF]);
  expect(commandOf(restoreFlags(runs))).toEqual(["kube-apiserver"]);
  const node = { kubelet: { staticPodPath: "/etc/kubernetes/manifests" } } as never;
  const file = `${box.dir}/etc/kubernetes/manifests/kube-apiserver.yaml`;
  for (const [flags, left] of [
    [[], 1],
    [[TRACING], 0],
  ] as const) {
    write(file, JSON.stringify(server(flags, [CONF])));
    endGivenUp({ node });
    expect(savedOptionsOf("start-without")).toHaveLength(left);
    rmSync(file);
  }
});
