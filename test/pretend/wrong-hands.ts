/** What must be true of every mistake: the script says what is wrong and what to type, and nothing on the node or in its programs changes. */
import { expect } from "bun:test";
import { ADDRESS } from "./cluster.ts";
import type { pretendNode, Transcript } from "./node.ts";

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

/** The exit code of what the tool does not do on this node, on this cluster, or with these names. */
export const REFUSED = 3;

/** Each script that changes a node, as it is typed. */
export const WRITERS = [
  "00-salvage",
  "00-token-key",
  "01-etcd --new-cas",
  "02-control-plane",
  "03-workers open",
  "03-workers join --server https://127.0.0.1:1 --ca-hash sha256:00",
  "03-workers close",
  "03-workers approve",
  "04-sa-tokens",
  "04-sa-tokens retire",
  "hand-over pack --passphrase-file pass --out keys.age",
  "hand-over unpack keys.age --passphrase-file pass",
  `join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4`,
] as const;

/** Another user, who can read all files: a checkout may be in root's own folder. */
export const NOBODY = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--inh-caps=+dac_read_search",
  "--ambient-caps=+dac_read_search",
];

/** A clear end: one error, one hint, no stack of a bug, and the exit code. */
export function expectStop({ exitCode, stderr }: Transcript, error: string | RegExp, hint: string | RegExp, code = 1) {
  const said = /(?:^|\n)error: (.+)\nhint: (.+)\n$/.exec(stderr);
  expect({ exitCode, stderr, said: said !== null }).toMatchObject({ exitCode: code, said: true });
  expect(said![1]!).toMatch(error);
  expect(said![2]!).toMatch(hint);
  expect(stderr).not.toMatch(/^\s+at .*\.ts:\d/m);
}

/** The same, and nothing was changed. */
export async function expectRefusal(node: PretendNode, line: string, error: string | RegExp, hint: string | RegExp, code = 1) {
  const before = node.fingerprint();
  expectStop(await node.run(line), error, hint, code);
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => /systemctl (stop|start|restart)|crictl .* stop|systemd-run/.test(call))).toEqual([]);
}

/** Starts a script, and sends a signal when it has said this, or when that has happened. `heard`: what to do when the script has answered. */
export async function interrupted(
  node: PretendNode,
  line: string,
  when: string | Promise<unknown>,
  signal: NodeJS.Signals,
  heard?: { says: string; act: () => void },
): Promise<Transcript> {
  const child = node.start(line, { KUBE_PKI_REPAIR_PATIENCE: "1" });
  let [stderr, sent] = ["", false];
  const send = () => {
    if (!sent) child.kill(signal);
    sent = true;
  };
  if (typeof when !== "string") void when.then(send);
  for await (const piece of child.stderr) {
    stderr += Buffer.from(piece).toString();
    if (typeof when === "string" && stderr.includes(when)) send();
    if (heard && stderr.includes(heard.says)) heard.act();
  }
  return { exitCode: await child.exited, stderr, stdout: await new Response(child.stdout).text() };
}
