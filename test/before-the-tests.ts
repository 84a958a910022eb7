/**
 * Loaded before the first test of a process (bunfig.toml): tests start without a node. Otherwise one that
 * forgets to choose a root, or runs on after its time limit, would read and write this machine's own
 * /etc/kubernetes.
 */
import { afterAll } from "bun:test";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { leaveNode } from "./pretend/no-node.ts";
import { elsewhere } from "./pretend/own-address.ts";
import { ofNow, withoutProcess } from "./pretend/programs.ts";
import { quickPassphrases, SEALED } from "./pretend/quick-passphrases.ts";
import { withoutShell } from "./pretend/without-shell.ts";
import { openFolder } from "./temporary.ts";

leaveNode();
withoutShell();
Bun.plugin({
  name: "quick passphrases",
  setup(build) {
    build.onLoad({ filter: SEALED }, async ({ path }) => ({
      contents: quickPassphrases(await Bun.file(path).text()),
      loader: "ts",
    }));
  },
});
Object.assign(Bun, {
  ...{ spawn: withoutProcess(ofNow(Bun.spawn)), spawnSync: ofNow(Bun.spawnSync) },
  ...{ serve: elsewhere(Bun.serve), listen: elsewhere(Bun.listen) },
  // scripts take memory back as they read: here each time would look through what all tests of the process have left
  gc: () => 0,
});

// Bun ends a process of tests without an "exit", so what a file keeps for all of its tests would stay; all.ts has a
// folder for its workers, in which a file is not the last one
if (process.env.BUN_TEST_WORKER_ID === undefined) {
  const own = openFolder(tmpdir());
  process.env.TMPDIR = own;
  afterAll(() => rmSync(own, { recursive: true }));
}
