/** What scripts say of each object and file that they read, where nobody can read it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { damage, nonsense, withMore } from "../pretend/nonsense.ts";
import { runsHere } from "../pretend/typed-here.ts";
import { unlike } from "../pretend/unlike.ts";
import type { Place } from "../pretend/unlike-cluster.ts";
import { rowsOf } from "./sample.ts";

setDefaultTimeout(300_000);

/** All that reads a control plane node; what writes only says what it would do. */
const READERS = [
  ...["00-assess", "00-assess --deep", "05-verify", "plan", "drill", "report", "hand-over pack --dry-run"],
  ...["00-salvage memory", "00-salvage secret", "00-salvage files", "01-etcd", "02-control-plane"].map(dry),
  ...["03-workers open", "03-workers close", "04-sa-tokens", "renew-ca", "move", "join-again"].map(dry),
];
const OF_LOST = ["00-assess", "plan", ...["01-etcd --new-cas", "00-salvage secret", "move"].map(dry)];

function dry(line: string): string {
  return `${line} --dry-run`;
}

/** In each sample. */
const ALWAYS = "configmaps/kube-system/kubeadm-config: cut off";
const ALL = await nonsense();
const ROWS = new Set([...rowsOf(ALL, 263), ...ALL.filter(({ name }) => name === ALWAYS)]);

test.each([...ROWS].map((row) => [row.name, row] as const))(
  "%s: each script goes on, or stops with a hint and no stack",
  async (name, row) => {
    const change = (place: Place) => {
      withMore(place);
      row.inEtcd?.(place);
    };
    const states = row.file?.path.startsWith("/etc/kubernetes") ? [false] : [false, true];
    for (const isLost of states) {
      using cluster = await unlike({ name, who: "this test", change }, runsHere, isLost);
      if (row.file) damage(cluster.node.root, row.file);
      for (const line of isLost ? OF_LOST : READERS) {
        const { exitCode, stdout, stderr, changed } = await cluster.run(line);
        const said = {
          line,
          exitCode,
          stack: /\n +at .*:\d+:\d+/.exec(stderr)?.[0],
          hint: /\n *(hint|stopped): ./.test(stderr),
        };
        expect({ ...said, changed, stderr: stderr.slice(-900) + stdout.slice(-300) }).toMatchObject({
          ...said,
          stack: undefined,
          changed: [],
        });
        // a plan that waits for a look, or for a word, says so on its page
        const isSaid =
          said.hint || (line === "plan" && exitCode === 3 && /^> Then print the plan again/m.test(stdout));
        const isAnswer = [0, 2].includes(exitCode) || ([1, 3, 64].includes(exitCode) && isSaid);
        expect([line, isAnswer]).toEqual([line, true]);
      }
    }
  },
);
