/**
 * What must be true of every mistake: the script says what is wrong and what to type, and nothing on the node
 * or in its programs changes.
 */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { waitFor } from "../../shared/wait-for.ts";
import { ADDRESS } from "./cluster.ts";
import type { pretendNode, Transcript } from "./node.ts";

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

/** The exit code of what the tool does not do on this node, on this cluster, or with these names. */
export const REFUSED = 3;
export const WRONG_WORD = 64;

/** Each script that changes a node, as it is typed. */
export const WRITERS = [
  "00-salvage",
  "00-token-key",
  "01-etcd --new-cas",
  "02-control-plane",
  "03-workers open",
  "03-join --server https://127.0.0.1:1 --ca-hash sha256:00",
  "03-workers close",
  "03-workers approve",
  "04-sa-tokens",
  "04-sa-tokens retire",
  "hand-over pack --passphrase-file pass --out keys.age",
  "hand-over unpack keys.age --passphrase-file pass",
  `join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4`,
  "restore snapshot.db --as m1",
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
export function expectStop(
  { exitCode, stderr }: Transcript,
  error: string | RegExp,
  hint: string | RegExp,
  code = 1,
) {
  const said = /(?:^|\n)error: (.+?)(?:\. Nothing was changed)?\nhint: (.+(?:\n {2}.+)*)\n$/.exec(stderr);
  expect({ exitCode, stderr, said: said !== null }).toMatchObject({ exitCode: code, said: true });
  expect(said![1]!).toMatch(error);
  expect(said![2]!.replaceAll("\n  ", ". ")).toMatch(hint);
  expect(stderr).not.toMatch(/^\s+at .*\.[jt]s:\d/m);
}

/** The same, and nothing was changed. */
export async function expectRefusal(
  node: PretendNode,
  line: string,
  error: string | RegExp,
  hint: string | RegExp,
  code = 1,
) {
  const before = node.fingerprint();
  expectStop(await node.run(line), error, hint, code);
  expect(node.fingerprint()).toEqual(before);
  expect(changesIn(node.calls())).toEqual([]);
}

/** Calls of programs that change what runs. */
export function changesIn(calls: readonly string[]): string[] {
  return calls.filter((call) => /systemctl (stop|start|restart)|crictl .* stop|systemd-run/.test(call));
}

interface Then {
  /** When the script has heard the signal, and waits on: what it waits for may go on. */
  heard?: () => void;
  /** When the script has answered so. */
  answered?: { says: string; act: () => void };
}

/** Starts a script, and sends a signal when it has said this, or when that has happened. */
export async function interrupted(
  node: PretendNode,
  line: string,
  when: string | Promise<unknown>,
  signal: NodeJS.Signals,
  then: Then = {},
): Promise<Transcript> {
  const child = node.start(line, { KUBE_PKI_REPAIR_PATIENCE: "1" });
  let [stderr, isSent] = ["", false];
  const send = () => {
    if (isSent) return;
    isSent = true;
    const slept = sleeps(child.pid);
    child.kill(signal);
    if (!then.heard) return;
    const isHeard = () => sleeps(child.pid) > slept;
    void waitFor("the script to hear the signal", isHeard, {
      seconds: 250,
      hint: "see what it printed",
    }).then(then.heard);
  };
  if (typeof when !== "string") void when.then(send);
  for await (const piece of child.stderr) {
    stderr += Buffer.from(piece).toString();
    if (typeof when === "string" && stderr.includes(when)) send();
    if (then.answered && stderr.includes(then.answered.says)) then.answered.act();
  }
  return { exitCode: await child.exited, stderr, stdout: await new Response(child.stdout).text() };
}

/**
 * How often the main thread of a process went to sleep: what has woken it is done when it does so once more.
 */
function sleeps(pid: number): number {
  return Number(
    /^voluntary_ctxt_switches:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/task/${pid}/status`, "utf8"))![1],
  );
}
