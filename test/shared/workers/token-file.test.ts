import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, lchownSync, mkdirSync, symlinkSync } from "node:fs";
import { writeTokenFiles } from "../../../shared/workers/joining.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const HIS = 1234;

describe.skipIf(process.getuid?.() !== 0)("where somebody else has a link", () => {
  test.each([
    ["in place of the token that any worker may take", "token"],
    ["in place of the folder of the workers' tokens", "token.d"],
  ])("%s, no token is made, and no file removed", async (_, name) => {
    using box = sandbox();
    mkdirSync(`${box.dir}/tmp`);
    chmodSync(`${box.dir}/tmp`, 0o1777);
    write(`${box.dir}/srv/other/w9/token`, "of another cluster");
    symlinkSync("/srv/other", `${box.dir}/tmp/${name}`);
    lchownSync(`${box.dir}/tmp/${name}`, HIS, HIS);
    let made = 0;
    const make = async () => new Map([[`w${++made}`, "abcdef.0123456789abcdef"]]);
    await expect(
      writeTokenFiles("/tmp/token", make, { ca: "CA", at: "https://10.0.0.11:6443", pods: new Map() }),
    ).rejects.toThrow(`"/tmp/${name}": it is a link of user 1234 to "/srv/other"`);
    expect([made, existsSync(`${box.dir}/srv/other/w9/token`)]).toEqual([0, true]);
  });
});
