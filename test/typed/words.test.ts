/**
 * Wrong hands: misspelt options, missing values, words that mean nothing. A script that does not understand
 * all of its line does nothing.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync } from "node:fs";
import { lookAt } from "../pretend/in-process.ts";
import { refusedHere, typeHere } from "../pretend/typed-here.ts";
import { expectStop, REFUSED, WRONG_WORD } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** [line, error, the option that was meant] */
const WORDS: [line: string, error: string, meant: string][] = [
  ["00-assess --deap", 'There is no option "--deap"', "--deep"],
  ["00-assess --constructor", 'There is no option "--constructor"', ""],
  ["00-assess deep", '"deep" is not understood', "--deep"],
  ["00-salvage --dryrun", 'There is no option "--dryrun"', "--dry-run"],
  ["00-salvage --minutes", '"--minutes" needs a value', ""],
  ["00-salvage memory --from --dry-run", '"--from" needs a value', ""],
  ["00-token-key --tokenfile x", 'There is no option "--tokenfile"', "--token-file"],
  ["00-token-key --token-file=", '"--token-file" needs a value', ""],
  ["01-etcd --new-ca", 'There is no option "--new-ca"', "--new-cas"],
  ["01-etcd -new-cas", 'There is no option "-new-cas"', "--new-cas"],
  ["01-etcd —new-cas", '"—new-cas" is not understood', "--new-cas"],
  ["01-etcd --new-cas=yes", '"--new-cas" takes no value, got "yes"', ""],
  ["01-etcd --new-cas --dry-rum", 'There is no option "--dry-rum"', "--dry-run"],
  ["02-control-plane --without=,", '"--without" takes names, got ","', ""],
  ["01-etcd --lost-on", '"--lost-on" needs a value', ""],
  ["02-control-plane --witout cp3", 'There is no option "--witout"', "--without"],
  ["02-control-plane --without --dry-run", '"--without" needs a value', ""],
  ["02-control-plane cp3", '"cp3" is not understood', ""],
  ["03-workers close –dry-run", '"–dry-run" is not understood', "--dry-run"],
  ["03-workers close --weit 5", 'There is no option "--weit"', "--wait"],
  ["03-join --server", '"--server" needs a value', ""],
  ["03-join --server https://x --cahash sha256:00", 'There is no option "--cahash"', "--ca-hash"],
  ["04-sa-tokens retire --forse", 'There is no option "--forse"', "--force"],
  ["04-sa-tokens --without", '"--without" needs a value', ""],
  ["05-verify --al", 'There is no option "--al"', "--all"],
  ["05-verify all", '"all" is not understood', "--all"],
  ["hand-over pack --passphrase x", 'There is no option "--passphrase"', "--passphrase-file"],
  ["hand-over unpack x.age --identity", '"--identity" needs a value', ""],
  ["hand-over pack --passphrase-file=", '"--passphrase-file" needs a value', ""],
  ["hand-over unpack x.age --ca-hash=", '"--ca-hash" needs a value', ""],
  ["join-again --adress 10.0.0.13:6443", 'There is no option "--adress"', "--address"],
  ["join-again --dryrun", 'There is no option "--dryrun"', "--dry-run"],
  ["join-again cp3", '"cp3" is not understood', ""],
  ["join-again --address", '"--address" needs a value', ""],
  ["join-again --address --kubernetes v1.34.4", '"--address" needs a value', ""],
  ["move --mvoed 10.0.0.1=10.0.0.2", 'There is no option "--mvoed"', "--moved"],
  ["move --moved", '"--moved" needs a value', ""],
  ["move cp1", '"cp1" is not understood', ""],
  ["plan --uzer x", 'There is no option "--uzer"', "--user"],
  ["plan a.md b.md", '"b.md" is not understood', ""],
  ["plan --user", '"--user" needs a value', ""],
  ["report report.html case.tar", '"case.tar" is not understood', ""],
  ["drill --al", 'There is no option "--al"', ""],
];

test.each(WORDS)("%s: refused, with the option that was meant", async (line, error, meant) => {
  const hint = `${meant ? `type ${meant}, or see ` : ""}./bunw scripts/${line.split(" ")[0]}.ts --help`;
  expect(await typeHere(line)).toEqual({
    exitCode: 64,
    stdout: "",
    stderr: `\nerror: ${error}\nhint: ${hint}\n`,
  });
});

/** Options of another sub-command: [line, the option, where it belongs, what was typed] */
const OTHERS: [line: string, option: string, belongs: string, typed: string][] = [
  ["00-salvage memory --device /dev/sda", "--device", "00-salvage or disk", "memory"],
  ["00-salvage files --kid abc", "--kid", "00-salvage, memory, secret or disk", "files"],
  ["00-salvage disk --certificate-key-file x", "--certificate-key-file", "00-salvage or secret", "disk"],
  ["03-workers close --token-file x --ca-hash y", "--token-file", "open", "close"],
  ["03-workers approve --wait 5", "--wait", "close", "approve"],
  ["04-sa-tokens --force", "--force", "retire", "04-sa-tokens"],
  ["04-sa-tokens --dry-run --force", "--force", "retire", "04-sa-tokens"],
  ["04-sa-tokens --only-system --skip a/b retire", "--only-system", "04-sa-tokens", "retire"],
  ["04-sa-tokens retire --skip=a/b", "--skip", "04-sa-tokens", "retire"],
  ["hand-over pack --ca-hash sha256:00", "--ca-hash", "unpack or snapshot", "pack"],
  ["hand-over unpack x.age --generate", "--generate", "pack", "unpack"],
  ["hand-over list x.age --move-aside", "--move-aside", "unpack", "list"],
  ["hand-over identity x --out y", "--out", "pack or snapshot", "identity"],
  ["hand-over files --force", "--force", "pack or unpack", "files"],
];

test.each(OTHERS)("%s: refused: the option means nothing there", async (line, option, belongs, typed) => {
  const error = `\nerror: "${option}" belongs to ${belongs}, not to ${typed}\nhint: ./bunw scripts/${line.split(" ")[0]}.ts --help\n`;
  expect(await typeHere(line)).toEqual({ exitCode: 64, stdout: "", stderr: error });
});

/** Sub-commands: [line, error] */
const COMMANDS: [line: string, error: RegExp][] = [
  ["00-salvage memmory", /^00-salvage has no sub-command "memmory"$/],
  ["00-salvage memory disk", /^00-salvage memory is the whole line but for its options, got ".* disk"$/],
  ["03-workers jion", /^03-workers has no sub-command "jion"$/],
  ["03-workers open close", /got "03-workers open close"$/],
  ["03-workers close dry-run", /got "03-workers close dry-run"$/],
  ["04-sa-tokens retier", /^04-sa-tokens has no sub-command "retier"$/],
  ["hand-over", /^hand-over needs a sub-command: pack, unpack, list, snapshot, identity or files$/],
  [
    "hand-over pack keys.age",
    /^hand-over pack is the whole line but for its options, got "hand-over pack keys.age"$/,
  ],
  [
    "hand-over unpack",
    /^hand-over unpack FILE is the whole line but for its options, got "hand-over unpack"$/,
  ],
  ["hand-over unpack a.age b.age", /got "hand-over unpack a.age b.age"$/],
  ["01-etcd --new-cas --new-internal-cas", /give one$/],
  ["00-assess --no-disk", /need --deep/],
];

test.each(COMMANDS)("%s: refused, with the help", async (line, error) => {
  expectStop(await typeHere(line), error, /\.\/bunw scripts\/[\w-]+\.ts/, WRONG_WORD);
});

test.each([
  ["00-salvage disk --minutes soon", /^"--minutes" takes a number, got "soon"$/],
  ["03-workers close --wait soon", /^"--wait" takes a number, got "soon"$/],
  ["03-workers close --wait=-5", /^"--wait" takes a number, got "-5"$/],
])("%s: a number is needed", async (line, error) => {
  expectStop(await typeHere(line), error, /^\.\/bunw scripts\/[\w-]+\.ts --help$/, WRONG_WORD);
});

test("plan plan.pdf: refused: nobody writes that", async () => {
  expectStop(
    await typeHere("plan plan.pdf"),
    /^Cannot write the plan to "plan.pdf"$/,
    /^give a name that ends in \.md or \.html$/,
    WRONG_WORD,
  );
});

test.each(["-oProxyCommand=x", "a\u00a0b", "a;reboot", "EXAMPLE\\jo"])(
  "plan --user=%s is no name of a user",
  async (name) => {
    expectStop(await typeHere(`plan --user=${name}`), / is no name of a user$/, /--user ubuntu$/, REFUSED);
  },
);

/** Names of nodes that etcd's data does not have, or that cannot be away. */
const NAMES: [line: string, error: RegExp, hint: RegExp][] = [
  ["02-control-plane --without cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["02-control-plane --without m1", /^"m1" is this node, and it is not away$/, /^name only other nodes/],
  ["02-control-plane --without w1,,cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["01-etcd --lost-on cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["03-workers open --without cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["03-workers close --without cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["03-workers approve --without cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["04-sa-tokens --without cp33", /^etcd knew no node "cp33"$/, /^name one of its nodes: /],
  ["04-sa-tokens retire --lost m1", /^"m1" is this node, and it is not lost$/, /^name only other nodes/],
];

test("a name that cannot be meant: refused, and nothing is changed", async () => {
  await lookAt({ kind: "healthy control plane node" }, async (node) => {
    cpSync(`${node.root}/var/lib/etcd`, `${node.root}/root/kube-pki-repair-20260101T000000/etcd`, {
      recursive: true,
    });
    for (const [line, error, hint] of NAMES) await refusedHere(node, line, error, hint, REFUSED);
  });
});
