/** Commands followed as they are printed, on pretend nodes. */
import { expect, test } from "bun:test";
import { pretendScene } from "../../pretend/scene.ts";
import type { Output } from "../machine/machine.ts";
import { printedLine } from "../scene/follow.ts";
import { followPrinted } from "../scene/printed.ts";

const JOIN = "./bunw scripts/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d --token-file token";
const done = (next: string): Partial<Output> => ({ stderr: `kube-pki-repair\n\ndone.  next: ${next}\n` });

test("what 00-assess and then each script prints is typed, up to 05-verify; what is for workers is typed there", async () => {
  const deep = ["systemctl stop kubelet", "./bunw scripts/00-salvage.ts memory", "./bunw scripts/01-etcd.ts"];
  const { scene, typed } = pretendScene({
    "./bunw scripts/00-assess.ts --deep --no-disk --json": {
      exitCode: 2,
      stdout: JSON.stringify({ next: deep }),
    },
    "./bunw scripts/00-salvage.ts memory": {
      exitCode: 2,
      stderr:
        "still lost: ca.key: look elsewhere\nif they are nowhere: ./bunw scripts/01-etcd.ts --new-cas\n",
    },
    "./bunw scripts/01-etcd.ts --new-cas": done("./bunw scripts/02-control-plane.ts"),
    "./bunw scripts/02-control-plane.ts": done("./bunw scripts/03-workers.ts open"),
    "./bunw scripts/03-workers.ts open": { stdout: `\n  ${JOIN}\n` },
    [JOIN]: done(
      "the same on the other workers that open has named, then on each control plane node: ./bunw scripts/03-workers.ts close",
    ),
    "./bunw scripts/03-workers.ts close": done("./bunw scripts/04-sa-tokens.ts"),
    "./bunw scripts/04-sa-tokens.ts": done(
      "./bunw scripts/04-sa-tokens.ts retire, on each control plane node; then ./bunw scripts/05-verify.ts",
    ),
    "./bunw scripts/04-sa-tokens.ts retire": done(
      "the same on the other control plane nodes, then ./bunw scripts/05-verify.ts",
    ),
  });
  const assess = [
    "systemctl stop kubelet",
    "./bunw scripts/00-assess.ts --deep    # says where each key can still be found",
  ];
  const { typed: said, refused } = await followPrinted(scene, assess);
  expect(refused).toBeUndefined();
  expect(said).toEqual([
    ...[
      "systemctl stop kubelet",
      "00-assess --deep",
      "systemctl stop kubelet",
      "00-salvage memory",
      "01-etcd --new-cas",
    ],
    ...[
      "02-control-plane",
      "03-workers open",
      "03-join",
      "03-workers close",
      "04-sa-tokens",
      "04-sa-tokens retire",
      "05-verify",
    ],
  ]);
  expect(typed.filter((line) => line.startsWith("w1: "))).toEqual([
    expect.stringContaining("base64 -d"),
    `w1: ${JOIN}`,
  ]);
});

test("a refusal ends it, with its reason and hint; so does a 05-verify that is not content", async () => {
  const { scene } = pretendScene({
    "./bunw scripts/01-etcd.ts": {
      exitCode: 1,
      stderr: '\nerror: "ca.crt" is of another CA\nhint: mv it away\n',
    },
    "./bunw scripts/05-verify.ts": {
      exitCode: 2,
      stdout: "  warning  files: backup: none\n  failed   nodes: w1: silent\n",
    },
  });
  expect(await followPrinted(scene, ["./bunw scripts/01-etcd.ts"])).toEqual({
    typed: ["01-etcd"],
    refused: '"ca.crt" is of another CA (hint: mv it away)',
  });
  expect(await followPrinted(scene, [])).toEqual({
    typed: ["05-verify"],
    refused: "05-verify: failed   nodes: w1: silent",
  });
});

test("where nobody has the certificate key, what is printed for that is typed", async () => {
  const deep = [
    "./bunw scripts/00-salvage.ts secret --move-aside   # asks",
    "if nobody has that key: ./bunw scripts/00-token-key.ts, then ./bunw scripts/01-etcd.ts --new-cas",
  ];
  const { scene } = pretendScene({
    "./bunw scripts/00-assess.ts --deep --no-disk --json": {
      exitCode: 2,
      stdout: JSON.stringify({ next: deep }),
    },
    "./bunw scripts/00-salvage.ts secret --move-aside": {
      exitCode: 1,
      stderr: "\nerror: no key\nhint: none\n",
    },
  });
  const { typed } = await followPrinted(scene, ["./bunw scripts/00-assess.ts --deep"]);
  expect(typed).toEqual([
    "00-assess --deep",
    "00-salvage secret --move-aside",
    "00-token-key",
    "01-etcd --new-cas",
    "05-verify",
  ]);
});

test("no command reads a disk, which is this machine's own", async () => {
  const { scene } = pretendScene({});
  const { typed } = await followPrinted(scene, [
    "./bunw scripts/00-salvage.ts --move-aside   # looks for the cluster's own",
  ]);
  expect(typed).toEqual(["00-salvage memory --move-aside", "05-verify"]);
});

test("printedLine() takes the last line that begins like the example", () => {
  const example = "./bunw scripts/03-join.ts --server https://… --token-file token";
  const stdout =
    "\nOn each worker:\n  ./bunw scripts/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d\n";
  expect(printedLine(example, stdout)).toBe(
    "./bunw scripts/03-join.ts --server https://lab-api:6443 --ca-hash sha256:7d",
  );
  expect(printedLine(example, "nothing")).toBeUndefined();
});
