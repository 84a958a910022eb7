/**
 * Wrong hands: every script that changes a node, on the wrong node and before its turn. Nothing changes
 * there.
 */
import { setDefaultTimeout, test } from "bun:test";
import { chmodSync, rmSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { lookAt, type PretendNode } from "../pretend/in-process.ts";
import type { NodeOptions } from "../pretend/node.ts";
import { refusedHere } from "../pretend/typed-here.ts";
import { REFUSED, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** The line, what is wrong, and what to type. */
type Row = [line: string, error: RegExp, hint: RegExp];

/** A node with the files that a line of WRITERS names. */
function withPass({ root }: PretendNode) {
  write(`${root}/root/pass`, "three-words-and-more\n");
  chmodSync(`${root}/root/pass`, 0o600);
}

const without = (...words: string[]) =>
  WRITERS.filter((line) => !words.some((word) => line.startsWith(word)));

const PACK = "hand-over pack --passphrase-file pass --out keys.age";
const NOTHING_TO_PACK: Row = [
  PACK,
  /^Cannot pack the keys in /,
  /^\.\/bunw scripts\/00-assess\.ts says which part repairs this/,
];
const JOIN = "03-join --server https://127.0.0.1:1 --ca-hash sha256:00";
const NO_JOIN: Row = [
  JOIN,
  /^This is a control plane node \(.+\): join is for workers$/,
  /^run part 2, which gives its kubelet/,
];

/** [kind of node, what is typed there, exit code] */
const PLACES: [where: string, kind: NonNullable<NodeOptions["kind"]>, code: number, rows: Row[]][] = [
  [
    "on a worker each says that this is no control plane node",
    "worker",
    REFUSED,
    without("hand-over", "03-join", "restore").map((line) => [
      line,
      /^This is no control plane node: /,
      /^run (?:it|this script) on (a|each) control plane node/,
    ]),
  ],
  [
    "on a machine that is no node of kubeadm's each says so",
    "no node",
    REFUSED,
    [
      ...without("hand-over", "00-salvage", "restore").map(
        (line): Row => [
          line,
          /^This is no node that kubeadm set up: "\/var\/lib\/kubelet\/config\.yaml" is missing$/,
          /kubeadm/,
        ],
      ),
      ["00-salvage", /^This is no control plane node: /, /^run this script on each control plane node/],
    ],
  ],
  ["a worker has nothing to pack", "worker", 1, [NOTHING_TO_PACK]],
  ["a machine that is no node has nothing to pack", "no node", 1, [NOTHING_TO_PACK]],
  [
    "a control plane node that is well does not join as a worker",
    "healthy control plane node",
    REFUSED,
    [NO_JOIN],
  ],
  ["nor does one that is wiped", "wiped control plane node", REFUSED, [NO_JOIN]],
  [
    "where nothing is repaired yet each names the part that comes first",
    "wiped control plane node",
    1,
    [
      [
        "01-etcd",
        /^\/etc\/kubernetes\/pki\/ca\.crt is needed and cannot be used/,
        /00-salvage\.ts.*hand-over\.ts.*01-etcd\.ts --new-cas$/,
      ],
      [
        "02-control-plane",
        /^etcd's certificates are not there$/,
        /^run part 1 first: \.\/bunw scripts\/01-etcd\.ts$/,
      ],
      ["03-workers open", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^run part 2 first: /],
      ["03-workers close", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^run part 2 first: /],
      ["03-workers approve", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^run part 2 first: /],
      ["04-sa-tokens", /^The shared keys are not there$/, /^run parts 1 and 2 first: /],
      ["04-sa-tokens retire", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^run part 2 first: /],
      [
        "hand-over unpack keys.age",
        /^There is no file "keys\.age"$/,
        /^copy the bundle here with scp: pack writes it/,
      ],
      NOTHING_TO_PACK,
    ],
  ],
  [
    "where no server answers each says which one",
    "healthy control plane node",
    1,
    [
      ["02-control-plane", /for etcd to answer: /, /^run part 1 first: /],
      ["03-workers open", /\/readyz: No answer/, /part 2 again/],
      ["03-workers close", /\/readyz: No answer/, /part 2 again/],
      ["03-workers approve", /\/readyz: No answer/, /part 2 again/],
      ["04-sa-tokens", /\/readyz: No answer/, /part 2 again/],
      ["04-sa-tokens retire", /\/readyz: No answer/, /part 2 again/],
    ],
  ],
];

test.each(PLACES)("%s", async (_, kind, code, rows) => {
  await lookAt({ kind, change: withPass }, async (node) => {
    for (const [line, error, hint] of rows) await refusedHere(node, line, error, hint, code);
  });
});

test("a control plane node whose etcd data is lost is one, and is told how it comes back", async () => {
  const change = ({ root }: PretendNode) => rmSync(`${root}/var/lib/etcd`, { recursive: true });
  await lookAt({ kind: "healthy control plane node", change }, async (node) => {
    for (const line of ["01-etcd", "02-control-plane"])
      await refusedHere(
        node,
        line,
        /^This is a control plane node \(.*: its etcd data is lost$/,
        /./,
        REFUSED,
      );
  });
});
