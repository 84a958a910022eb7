/**
 * Every path that an operator can type, of every script: in a folder where others write, such as /tmp, nobody
 * else's link is followed.
 */
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { runInTurn } from "../pretend/many-runs.ts";
import { PATHS, type TypedPath } from "../repo/typed-paths.ts";

/** A stranger has made a link in root's /tmp; it leads to a key of root's. */
function laidTrap(): { root: string } & Disposable {
  const root = fs.mkdtempSync("/tmp/typed-paths-");
  for (const folder of ["etc", "tmp"]) fs.mkdirSync(`${root}/${folder}`);
  fs.chmodSync(`${root}/tmp`, 0o1777);
  fs.writeFileSync(`${root}/etc/ca.key`, "key", { mode: 0o600 });
  fs.symlinkSync("/etc/ca.key", `${root}/tmp/out.html.prom`);
  fs.lchownSync(`${root}/tmp/out.html.prom`, 1234, 1234);
  return { root, [Symbol.dispose]: () => fs.rmSync(root, { recursive: true }) };
}

test.skipIf(process.getuid?.() !== 0)(
  "no typed path is followed where somebody else has made a link, and nothing is changed",
  async () => {
    const wrong: string[] = [];
    const play = async ({ line }: TypedPath) => {
      using trap = laidTrap();
      const before = stateOf(trap.root);
      const env = { PATH: process.env.PATH!, KUBE_PKI_REPAIR_ROOT: trap.root };
      const { exitCode, stderr } = await runInTurn({ line: `${line} /tmp/out.html.prom`, env });
      const isSaid = stderr.includes(
        '"/tmp/out.html.prom": it is a link of user 1234 to "/etc/ca.key". Nothing was changed\n',
      );
      if (exitCode !== 3 || !isSaid) wrong.push(`${line}: ${exitCode}: ${stderr.split("\n")[0]}`);
      if (stateOf(trap.root) !== before) wrong.push(`${line}: something was changed`);
    };
    for (const path of PATHS) await play(path);
    expect(wrong).toEqual([]);
  },
);

/** Every path below with its owner, mode and content. */
function stateOf(root: string): string {
  const paths = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
  return paths
    .map((path) => {
      const info = fs.lstatSync(join(root, path));
      return [path, info.uid, info.mode, info.isFile() ? fs.readFileSync(join(root, path)) : ""].join(" ");
    })
    .join("\n");
}
