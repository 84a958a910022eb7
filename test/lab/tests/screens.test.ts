/** An operator who follows the screens of several nodes, on pretend nodes. */
import { expect, test } from "bun:test";
import { pretendScene } from "../../pretend/scene.ts";
import type { Output } from "../machine/machine.ts";
import { bundleIn, followScreens, operatorAt } from "../scene/screens.ts";

const done = (next: string): Partial<Output> => ({ stderr: `kube-pki-repair\n\ndone.  next: ${next}\n` });
const assess = (...next: string[]): Partial<Output> => ({
  exitCode: 2,
  stdout: `verdict: lost\n\nnext\n${next.map((line) => `  ${line}\n`).join("")}`,
});
const stop = (hint: string): Partial<Output> => ({ exitCode: 1, stderr: `\nerror: no\nhint: ${hint}\n` });
const S = "./bunw scripts";
const terminal = (command: string) =>
  `yes "four words of the phone call" | head -2 | script -qec "${command}" /dev/null`;
const JOIN = `${S}/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d --token-file token`;
const UNPACK = `${S}/hand-over.ts unpack --ca-hash sha256:7d keys.age`;

async function follow(answers: Record<string, Partial<Output>>) {
  const { scene } = pretendScene(answers);
  const operator = operatorAt(scene);
  const failed = await followScreens(operator, `${S}/00-assess.ts`).catch((err) => err.message);
  return { typed: operator.typed, stops: operator.stops, lost: [...operator.lost], failed };
}

test("what each screen names is typed on the node that it names, up to a green 05-verify on the first node", async () => {
  const { typed, stops, failed } = await follow({
    [`${S}/00-assess.ts`]: assess(
      "systemctl stop kubelet",
      `${S}/00-assess.ts --deep    # says where`,
      `${S}/01-etcd.ts --new-cas   # only if`,
    ),
    [`${S}/00-assess.ts --deep --no-disk`]: assess(
      "systemctl stop kubelet",
      `${S}/00-salvage.ts secret   # asks`,
      `${S}/01-etcd.ts`,
      `${S}/02-control-plane.ts`,
    ),
    [`${S}/00-salvage.ts secret`]: stop(
      `type it\n  If nobody has it: ${S}/00-token-key.ts, then ${S}/01-etcd.ts --new-cas`,
    ),
    [`${S}/00-token-key.ts`]: {
      ...done(`${S}/01-etcd.ts --new-cas, then the scp lines above, then ${S}/02-control-plane.ts`),
      stdout: "  scp -p /etc/kubernetes/pki/sa-old.pub root@cp2:/etc/kubernetes/pki/\n",
    },
    [`${S}/01-etcd.ts --new-cas`]: done(
      `${S}/hand-over.ts pack, then unpack it on cp2, then part 1 on cp2, then ${S}/02-control-plane.ts`,
    ),
    [terminal(`${S}/hand-over.ts pack`)]: { stdout: `\r\ndone.  next: copy it; there:\r\n${UNPACK}\r\n` },
    [terminal(UNPACK)]: {
      exitCode: 1,
      stdout: `\r\n\x1b[1merror:\x1b[0m other keys\r\nhint: pack the keys\r\n  If the bundle is right, move the keys here to the rescue folder: ${UNPACK} --move-aside\r\n`,
    },
    [terminal(`${UNPACK} --move-aside`)]: { stdout: `\r\ndone.  next: ${S}/01-etcd.ts\r\n` },
    [`${S}/01-etcd.ts`]: done(`${S}/02-control-plane.ts`),
    [`${S}/02-control-plane.ts`]: done(
      `part 2 on cp1, cp2 where it is not done yet, then ${S}/03-workers.ts open`,
    ),
    [`${S}/03-workers.ts open`]: {
      stdout: `${JOIN}\n`,
      stderr: `\nthen on each control plane node: ${S}/03-workers.ts close\n`,
    },
    [JOIN]: done(
      `the same on the other workers that open has named, then on each control plane node: ${S}/03-workers.ts close`,
    ),
    [`${S}/03-workers.ts close`]: {
      stderr: `  still waiting for 1 of 3 nodes to come back: cp1 (since 01:35). If it takes too long: ${S}/03-workers.ts close --without cp1
done.  next: the same on cp2 where it is not done yet, then ${S}/04-sa-tokens.ts\n`,
    },
    [`${S}/04-sa-tokens.ts`]: done(
      `on each control plane node: ${S}/04-sa-tokens.ts retire, then ${S}/05-verify.ts`,
    ),
    [`${S}/04-sa-tokens.ts retire`]: done(`the same on cp2 where it is not done yet, then ${S}/05-verify.ts`),
  });
  expect(failed).toBeUndefined();
  expect(stops.map((line) => line.split(".ts")[0])).toEqual(["cp1: 00-salvage", "cp2: hand-over"]);
  expect(typed).toEqual([
    ...[
      "cp1: 00-assess.ts",
      "cp1: systemctl stop kubelet",
      "cp1: 00-assess.ts --deep --no-disk",
      "cp1: 00-salvage.ts secret",
    ],
    ...[
      "cp1: 00-token-key.ts",
      "cp1: 01-etcd.ts --new-cas",
      "cp1: hand-over.ts pack",
      "laptop: scp cp1:keys.age cp2:",
    ],
    ...[
      "cp2: hand-over.ts unpack --ca-hash sha256:7d keys.age",
      "cp2: hand-over.ts unpack --ca-hash sha256:7d keys.age --move-aside",
    ],
    ...[
      "cp2: 01-etcd.ts",
      "cp2: 02-control-plane.ts",
      "laptop: scp cp1:/etc/kubernetes/pki/sa-old.pub cp2:",
      "cp1: 02-control-plane.ts",
      "cp1: 03-workers.ts open",
      "laptop: scp cp1:token.d/NODE/token w1:",
    ],
    ...[
      `w1: ${JOIN.replace(`${S}/`, "")}`,
      "cp1: 03-workers.ts close",
      "cp2: 03-workers.ts close",
      "cp1: 04-sa-tokens.ts",
    ],
    ...["cp1: 04-sa-tokens.ts retire", "cp2: 04-sa-tokens.ts retire", "cp1: 05-verify.ts"],
  ]);
});

test("a node that a screen calls lost is left out from then on, and its Node is deleted before part 4", async () => {
  const { typed, lost } = await follow({
    [`${S}/00-assess.ts`]: assess(`on cp2: ${S}/00-assess.ts --deep`, `${S}/02-control-plane.ts`),
    [`${S}/00-assess.ts --deep --no-disk`]: assess(
      `${S}/02-control-plane.ts --lost cp2   # on another control plane node`,
    ),
    [`${S}/02-control-plane.ts --lost cp2`]: {
      stderr: `\nAfter part 3, before part 4:\n  kubectl --kubeconfig x delete node cp2\n\ndone.  next: part 2 on cp2, then ${S}/04-sa-tokens.ts --lost cp2\n`,
    },
    [`${S}/04-sa-tokens.ts --lost cp2`]: done(`${S}/05-verify.ts`),
  });
  expect(lost).toEqual(["cp2"]);
  expect(typed).toEqual([
    ...["cp1: 00-assess.ts", "cp2: 00-assess.ts --deep --no-disk", "cp1: 02-control-plane.ts --lost cp2"],
    ...[
      "cp1: kubectl --kubeconfig x delete node cp2",
      "cp1: 04-sa-tokens.ts --lost cp2",
      "cp1: 05-verify.ts",
    ],
  ]);
});

test("screens that name nothing more, or lead in a circle, end it", async () => {
  expect((await follow({})).failed).toStartWith("the screens name nothing more, after: cp1: 00-assess.ts");
  const { failed } = await follow({ [`${S}/00-assess.ts`]: stop(`${S}/00-assess.ts`) });
  expect(failed).toStartWith("the screens lead in a circle");
});

test.each([
  "keys.age",
  "--ca-hash sha256:0a1b keys.age",
  "--passphrase-file word --ca-hash sha256:0a1b keys.age",
  "--ca-hash sha256:0a1b -- keys.age",
])("the bundle that is carried is the last word of unpack %s", (words) => {
  expect(bundleIn(`  ./bunw scripts/hand-over.ts unpack ${words}\n`)).toBe("keys.age");
});
