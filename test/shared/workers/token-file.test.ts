/** The file with a worker's token and the CA: whose it is, and what of a copied one is taken. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, lchownSync, mkdirSync, symlinkSync } from "node:fs";
import { certificatesIn, trustedKeys } from "../../../shared/pki/certificate.ts";
import { writeTokenFiles } from "../../../shared/workers/joining.ts";
import { readTokenFile, type TokenFile, tokenNotes, tokenText } from "../../../shared/workers/token-file.ts";
import { healthyCp, otherCa, write } from "../../pretend/cluster.ts";
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

const CA = certificatesIn((await healthyCp()).ca.cert).join("");
const OTHER = (await otherCa()).cert;
const FILE: TokenFile = {
  ...{ token: "abcdef.0123456789abcdef", owner: "w1", at: "https://10.0.0.11:6443", ca: CA },
  pods: ["haproxy", "keepalived"],
};

test.each<[what: string, text: string | undefined, refused: string | undefined]>([
  ["its own", tokenText(FILE), undefined],
  ["one that any worker may take", tokenText({ ...FILE, owner: undefined, pods: [] }), undefined],
  ["one of an earlier kit, which names no server", tokenText(FILE).replace(/^# at .*\n/m, ""), undefined],
  ["none", undefined, 'There is no token file "token"'],
  ["another worker's", tokenText({ ...FILE, owner: "w2" }), 'the token of "w2", and this node is "w1"'],
  ["the CA alone", CA, '"token" holds no bootstrap token'],
  [
    "with another CA",
    tokenText({ ...FILE, ca: OTHER }),
    `"${[...trustedKeys(OTHER)]}", not "${[...trustedKeys(CA)]}"`,
  ],
  ["with one CA too many", tokenText({ ...FILE, ca: CA + OTHER }), 'The CA in "token" has the fingerprint'],
  ["without a CA", tokenText({ ...FILE, ca: "" }), 'The CA in "token" has the fingerprint'],
])("a worker takes a token file for the CA that was asked for: %s", (_, text, refused) => {
  using box = sandbox();
  if (text !== undefined) write(`${box.dir}${process.cwd()}/token`, text);
  const read = () => readTokenFile("token", [...trustedKeys(CA)], "w1");
  if (refused) return void expect(read).toThrow(refused);
  expect(read()).toEqual({ ...tokenNotes("token"), token: FILE.token, ca: CA });
});

test("what a token file says beside the token is read back, and nothing where there is no file", () => {
  using box = sandbox();
  write(`${box.dir}${process.cwd()}/token`, tokenText(FILE));
  const { owner, at, pods } = FILE;
  expect(tokenNotes("token")).toEqual({ owner, at, pods });
  write(`${box.dir}${process.cwd()}/token`, tokenText({ ...FILE, owner: undefined, pods: [] }));
  expect(tokenNotes("token")).toEqual({ owner: undefined, at, pods: [] });
  for (const file of ["", "elsewhere"])
    expect(tokenNotes(file)).toEqual({ owner: undefined, at: undefined, pods: [] });
});
