/** What is typed behind `npm run pack --`. */
import { expect, test } from "bun:test";
import { lchownSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { sandbox } from "../pretend/sandbox.ts";
import { typeHere } from "../pretend/typed-here.ts";

test("a misspelt option is refused, with where the help is", async () => {
  expect(await typeHere("pack-kit --arhc x64")).toEqual({
    exitCode: 64,
    stdout: "",
    stderr:
      '\nerror: There is no option "--arhc"\nhint: type --arch, or see ./bunw tools/pack/pack-kit.ts --help\n',
  });
});

test.skipIf(process.getuid?.() !== 0)(
  "somebody else's link is not followed, and nothing is written",
  async () => {
    using box = sandbox();
    mkdirSync(`${box.dir}/tmp`, { mode: 0o1777 });
    writeFileSync(`${box.dir}/key`, "key");
    symlinkSync("/key", `${box.dir}/tmp/kit.tar.gz`);
    lchownSync(`${box.dir}/tmp/kit.tar.gz`, 1234, 1234);
    const { exitCode, stderr } = await typeHere("pack-kit --out /tmp/kit.tar.gz");
    expect([exitCode, stderr]).toEqual([
      3,
      expect.stringContaining(
        '"/tmp/kit.tar.gz": it is a link of user 1234 to "/key". Nothing was changed\n',
      ),
    ]);
    expect(readdirSync(box.dir).sort()).toEqual(["key", "tmp"]);
  },
);
