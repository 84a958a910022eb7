/**
 * Two control plane nodes and a worker whose CAs are renewed in a random order: all of them or one, forth and
 * back, on whichever node comes next, with the power cut after any change. 20 such orders, one in a sample;
 * RENEWALS=N takes so many, SEED=N other ones.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { caIn } from "../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../shared/pki/renew.ts";
import { CA_NAMES } from "../../shared/renew/renewal.ts";
import { healthyCp, write } from "../pretend/cluster.ts";
import { cutAfter } from "../pretend/cut-run.ts";
import { random } from "../pretend/damage.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { LONG_LIFE, longLives } from "../pretend/long-lives.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(900_000);

const COUNT = Number(process.env.RENEWALS || (IS_SAMPLE ? 1 : 20));
const SEED = Number(process.env.SEED || 20261129);
const STEPS = 8;

const PKI = "/etc/kubernetes/pki";
const FILES = ["ca", "etcd/ca", "front-proxy-ca"].map((name) => `${PKI}/${name}.crt`);
const CONFIGS = ["admin", "controller-manager", "scheduler", "kubelet"];
const LEAVES: Record<string, string[]> = {
  ca: ["apiserver", "apiserver-kubelet-client"],
  "etcd/ca": ["etcd/server", "etcd/peer", "apiserver-etcd-client"],
  "front-proxy-ca": ["front-proxy-client"],
};

type Node = Awaited<ReturnType<typeof pretendNode>>;

let [steps, cuts] = [0, 0];
afterAll(() => console.log(`${steps} steps, ${cuts} of them cut off`));

const { root } = await healthyCp();
const text = (path: string) => Bun.file(`${root}${path}`).text();
const OLD = await Promise.all(FILES.map(text));
const NEW = await Promise.all(
  FILES.map(async (path, i) =>
    renewCa(OLD[i]!, await text(path.replace(".crt", ".key")), { hours: LONG_LIFE, signed: [] }),
  ),
);

/** What somebody types next, on any of the nodes; the same again is allowed. */
function nextOf(pick: (n: number) => number): { on: number; words: string; cut: number | undefined } {
  const only = pick(2) === 0 ? "" : ` --only ${CA_NAMES[pick(3)]}`;
  const words = `renew-ca${only}${["", "", "", " --undo", " --undo", " --dry-run"][pick(6)]}`;
  return { on: pick(3), words, cut: pick(3) > 0 ? 1 + pick(25) : undefined };
}

/** Every file has the old certificate or the renewed one, whole, and all leaves are good under it. */
function expectSound(node: Node, i: number) {
  const isWorker = i === 2;
  for (const [at, path] of isWorker ? [[0, FILES[0]!] as const] : FILES.entries()) {
    const pem = node.read(path);
    expect([OLD[at], NEW[at]]).toContain(pem);
    for (const leaf of isWorker ? [] : LEAVES[path.slice(PKI.length + 1, -4)]!)
      expect(
        new X509Certificate(node.read(`${PKI}/${leaf}.crt`)).verify(new X509Certificate(pem).publicKey),
      ).toBe(true);
  }
  for (const name of isWorker ? ["kubelet"] : CONFIGS)
    expect([OLD[0], NEW[0]]).toContain(caIn(node.read(`/etc/kubernetes/${name}.conf`)));
}

test.each(Array.from({ length: COUNT }, (_, i) => SEED + i))(
  "seed %d: whatever is typed where, and cut off, each file is old or renewed; at the end all are renewed, alike, and --undo brings all back",
  async (seed) => {
    const pick = random(seed);
    const kinds = ["healthy control plane node", "healthy control plane node", "worker"] as const;
    const nodes = await Promise.all(
      kinds.map(async (kind) => here(await pretendNode({ kind, etcd: longLives }))),
    );
    const [first, , worker] = nodes as [Node, Node, Node];
    const servers = [serveEtcd(first.root, sameEtcd(first.stored)), servePart2(first)];
    write(`${worker.root}/root/new/ca.crt`, NEW[0]!, 0o644);
    const of = (words: string, i: number) =>
      i === 2
        ? words.replace(/ --only \S+/, "").replace(/renew-ca(?!.*--undo)/, "renew-ca --from /root/new")
        : words;
    const typed: string[] = [];
    try {
      for (let step = 0; step < STEPS; step++) {
        const { on, words, cut } = nextOf(pick);
        const [node, line] = [nodes[on]!, of(words, on)];
        typed.push(`${on}: ${line}${cut ? `, cut after ${cut}` : ""}`);
        if (cut === undefined) {
          const { exitCode, stderr } = await node.run(line);
          expect({ typed, exitCode, stderr }).toMatchObject({ exitCode: 0 });
        } else {
          const child = node.start(line, { KUBE_PKI_REPAIR_PATIENCE: "1", ...cutAfter(cut) });
          const stderr = await new Response(child.stderr).text();
          cuts += Number((await child.exited) !== 0);
          if (child.exitCode !== 0)
            expect({ typed, by: child.signalCode, stderr }).toMatchObject({ by: "SIGKILL" });
        }
        steps++;
        expectSound(node, on);
      }
      const order = pick(2) === 0 ? [0, 1, 2] : [2, 1, 0];
      for (const [words, wanted] of [
        ["renew-ca", NEW],
        ["renew-ca --undo", OLD],
        ["renew-ca", NEW],
      ] as const)
        for (const i of order) {
          const { exitCode, stderr } = await nodes[i]!.run(of(words, i));
          expect({ typed, words, i, exitCode, stderr }).toMatchObject({ exitCode: 0 });
          const paths = i === 2 ? FILES.slice(0, 1) : FILES;
          expect([typed, words, i, paths.map((path) => nodes[i]!.read(path))]).toEqual([
            typed,
            words,
            i,
            wanted.slice(0, paths.length),
          ]);
        }
    } finally {
      for (const one of [...servers, ...nodes]) one[Symbol.dispose]();
    }
  },
);
