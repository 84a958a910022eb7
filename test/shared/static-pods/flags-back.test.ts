/** A file that was given up is here again: its flag and its volume come back, and the word ends. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { commandOf } from "../../../shared/manifests/command.ts";
import { hear, keepWords, wordsOf } from "../../../shared/node/words.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import {
  endGivenUp,
  flagsToComeBack,
  keepBefore,
  withFlagsBack,
} from "../../../shared/static-pods/flags-back.ts";
import { startWithout } from "../../../shared/static-pods/without-files.ts";
import { manifest, write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const CONF = "/etc/kubernetes/own";
const TRACING = `--tracing-config-file=${CONF}/trace.yaml`;
const AUTHORIZATION = `--authorization-config=${CONF}/authz.yaml`;
const KEY = (name: string) => `--service-account-key-file=${CONF}/${name}.pub`;
const RESCUE = { dir: "/root/kube-pki-repair-20260101T000000", made: new Date("2026-01-01T00:00:00Z") };

function server(flags: readonly string[]): Manifest {
  const pod = structuredClone(manifest("kube-apiserver"));
  const [container] = pod.spec.containers;
  container!.command = ["kube-apiserver", ...flags];
  pod.spec.volumes = [{ name: "own", hostPath: { path: CONF } }];
  container!.volumeMounts = [{ name: "own", mountPath: CONF }];
  return pod;
}

interface Row {
  flags: string[];
  /** Files that are here when the API server first starts. */
  here?: string[];
  back: string[];
  /** What it starts with when they are back, in any order. */
  left: string[];
}

test.each<[string, Row]>([
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
  const before = server(flags);
  const names = [...new Set(flags.map((flag) => /^--([\w-]+)/.exec(flag)![1]!))];
  const runs = startWithout(before, { flagsToDrop: names });
  keepBefore(before, runs, { rescue: RESCUE, flagsToDrop: names });
  hear({ "start-without": names });
  const lost = flags
    .map((flag) => flag.split("=")[1]!)
    .filter((path) => !here.includes(path.split("/").at(-1)!));
  keepWords(
    "m1",
    new Map(
      names.map((name) => [
        name,
        lost.filter((path) => before.spec.containers[0]!.command!.includes(`--${name}=${path}`)),
      ]),
    ),
  );
  put(back);
  const wanted = withFlagsBack(runs);
  expect(commandOf(wanted).slice(1).toSorted()).toEqual(left.toSorted());
  expect(wanted.spec.volumes).toEqual(
    left.length > 0 && (back.length > 0 || here.length > 0) ? before.spec.volumes : [],
  );
  expect(flagsToComeBack(runs, wanted).map(({ path }) => path)).toEqual(
    back.map((name) => `${CONF}/${name}`),
  );
  expect(withFlagsBack(wanted)).toBe(wanted);
});

test("a flag that goes for another reason, as sa-old.pub's after part 4, leaves no manifest of before", () => {
  using box = sandbox();
  keepBefore(server([KEY("a"), KEY("sa-old")]), server([KEY("a")]), { rescue: RESCUE, flagsToDrop: [] });
  expect(existsSync(`${box.dir}${RESCUE.dir}`)).toBe(false);
});

test("the word ends where all its files and flags are here; without a manifest of before, nothing is made up", () => {
  using box = sandbox();
  const path = `${CONF}/trace.yaml`;
  hear({ "start-without": ["tracing-config-file"] });
  keepWords("m1", new Map([["tracing-config-file", [path]]]));
  write(`${box.dir}${path}`, "x");
  const runs = server([]);
  expect(commandOf(withFlagsBack(runs))).toEqual(["kube-apiserver"]);
  const node = { kubelet: { staticPodPath: "/etc/kubernetes/manifests" } } as never;
  const file = `${box.dir}/etc/kubernetes/manifests/kube-apiserver.yaml`;
  for (const [flags, left] of [
    [[], 1],
    [[TRACING], 0],
  ] as const) {
    write(file, JSON.stringify(server(flags)));
    endGivenUp({ node });
    expect(wordsOf("start-without")).toHaveLength(left);
    rmSync(file);
  }
});
