/**
 * No wait is silent (shared/wait-for.ts): what may take more than ten seconds goes through `waitFor`,
 * `sayWhile`, `answered` or a Progress.
 */
import { expect, test } from "bun:test";
import { blank, kitSources, matches, type Source } from "./sources.ts";

const sources = await kitSources();

/**
 * Beginnings of what somebody else has to end: a program, a request, a connection, a stream, the end of
 * another process; a disk, a copy.
 */
const BEGINNINGS =
  /\bcopyFileSync\(|\bcopyTree\(|\$\(\{|\bBun\.spawn(?:Sync)?\(|\bfetch(?:Directly)?\(|\bconnect\(\{|\bAbortSignal\.timeout\(|\bsetInterval\(|\.exited\b/g;

/** What says for whom it waits, on the same line, or on one of the two before or behind. */
const SAYS = /\b(sayWhile|answered|act)\(/;

/** Files where a beginning is not said, and why none of them lasts ten seconds, or who speaks instead. */
const MAY_BE_SILENT: Record<string, string> = {
  "shared/wait-for.ts": "is what says it",
  "shared/api/kube-api.ts": "its limits are those of a request that `answered` says",
  "shared/etcd-location/client.ts": "its limits are those of a request that `answered` says",
  "shared/api/many.ts": "gives a place to the next, and a stream its limit; each owner's own wait speaks",
  "shared/pki/served.ts":
    "a handshake with a limit of ten seconds; who asks for an answer has the limit, and `answered` says it",
  "shared/workers/node-status.ts": "limits of five seconds and of one",
  "shared/evidence/server-clock.ts": "has a limit of two seconds",
  "shared/node/node.ts": "uname, ip and systemctl is-active ask the kernel and systemd's memory",
  "shared/etcd/tell-members.ts": "ip addr changes the kernel's table",
  "shared/node/started-with.ts": "systemctl cat and show ask systemd's memory; its `waitFor` speaks",
  "shared/node/lost-environment.ts": "its `sayWhile` speaks for journalctl",
  "shared/assess/data-rows.ts": "systemctl is-active asks systemd's memory",
  "shared/salvage/disk/disk.ts": "findmnt reads the kernel's table",
  "shared/drill/drill.ts": "renice and ionice set a number",
  "shared/node/kept-run.ts": "flock -n does not wait",
  "shared/prompt.ts": "waits for the operator, who sees the question",
  "shared/files/file-tree.ts":
    "certificates, kubeconfigs and manifests are small; copyLargeTree says how far it is",
  "shared/workers/saved-trust.ts": "the files that a kubelet trusts and uses are small",
  "shared/follow/ssh.ts": "each run has a lane that shows its seconds, and ssh itself says what it waits for",
  "shared/follow/meet.ts": "ssh's own limit is ten seconds, and ssh says on the terminal what it asks",
  "shared/follow/lanes.ts": "is what shows the seconds",
  "shared/follow/kit-file.ts": "says before it that the kit is packed, which takes seconds",
  "tools/release/version.ts": "git reads a small repository on the maker's machine",
  "tools/pack/write-kit.ts": "npm on the operator's laptop, which says what it fetches",
};

function silent({ path, text }: Source): string[] {
  const lines = blank(text, { strings: true }).split("\n");
  return matches({ path, text }, BEGINNINGS).filter((at) => {
    const line = Number(/:(\d+)/.exec(at)![1]);
    return !lines.slice(Math.max(0, line - 3), line + 2).some((one) => SAYS.test(one));
  });
}

test("a program that nobody speaks for is found, and one that is spoken for is not", () => {
  const path = "shared/a.ts";
  const bare = "const { stdout } = await $({ quiet: true })`sleep 60`;\n";
  const spoken =
    'const run = () => $({ quiet: true })`sleep 60`;\nawait sayWhile("sleep", "kill it", run);\n';
  expect(silent({ path, text: bare })).toHaveLength(1);
  expect(silent({ path, text: spoken })).toEqual([]);
});

test("whatever may take more than ten seconds says for whom it waits", () => {
  expect(sources.filter(({ path }) => !(path in MAY_BE_SILENT)).flatMap(silent)).toEqual([]);
});

test("no file may be silent without a reason that is still there", () => {
  const idle = Object.keys(MAY_BE_SILENT).filter(
    (path) => !sources.some((source) => source.path === path && matches(source, BEGINNINGS).length > 0),
  );
  expect(idle).toEqual([]);
});
