/** What was said on one control plane node travels in the bundle: if it is proved who locked it, or not at all. */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { main } from "../../../scripts/hand-over.ts";
import { exists, removeFile, writeFile } from "../../../shared/files/files.ts";
import { packTar } from "../../../shared/hand-over/bundle.ts";
import { allRescueFolders, WORDS_FILE } from "../../../shared/node/rescue-folder.ts";
import * as words from "../../../shared/node/words.ts";
import { mode } from "../../../shared/run.ts";
import { bundleOf, put } from "../../pretend/bundles.ts";
import { FILE, keys, NAMED, node, putSealed, recipient } from "../../pretend/hand-over.ts";

setDefaultTimeout(300_000);

const said = () => words.savedOptionsHere().map(({ option, value, on }) => `${option} ${value} ${on}`);
const ALL = ["without cp3 cp1", "start-without tracing-config-file cp1"];

/** As on the node that unpacks it: nothing was said there. */
function forget() {
  mode.began = new Date();
  const kept = [
    "/run/kube-pki-repair-words.json",
    ...allRescueFolders().map(({ dir }) => `${dir}/${WORDS_FILE}`),
  ];
  for (const path of kept) if (exists(path)) removeFile(path);
}

async function packed(lock: readonly string[]) {
  put(keys);
  mode.began = new Date();
  words.useTypedOptions({ without: ["cp3"], "start-without": ["tracing-config-file"] });
  words.saveTypedOptions("cp1", new Map([["tracing-config-file", ["/etc/kubernetes/tracing.yaml"]]]));
  // of that node alone: nobody else takes them, whoever proves them
  words.saveForThisNode("moved", ["10.0.0.1=10.0.1.1"], { on: "cp1" });
  words.saveForThisNode("restored", ["a snapshot"], { on: "cp1", members: ["cp1"], caHash: "sha256:x" });
  await main(["pack", ...lock, "--out", FILE]);
  forget();
  expect(said()).toEqual([]);
}

test.each([
  [
    "a passphrase proves who said it",
    ["--passphrase-file", "/passphrase"],
    ["--passphrase-file", "/passphrase"],
  ],
  ["the CA's fingerprint does, too", ["--to", recipient], ["--identity", "/id", ...NAMED]],
])("%s", async (_, lock, key) => {
  using _box = node();
  await packed(lock);
  await main(["unpack", FILE, ...key]);
  expect(said()).toEqual(ALL);
});

test("a cluster and nodes may have names in any letters", async () => {
  using box = node();
  const cluster = { name: "Größe", kubeSystemUid: "u", controlPlanes: ["cp1"] };
  await putSealed(packTar(bundleOf(keys, { cluster, node: "узел" })));
  await main(["list", FILE, "--identity", "/id"]);
  expect(box.answers.join("\n")).toContain('on узел, kube-pki-repair 0; cluster "Größe"');
});

test("a bundle is a backup, too: words of an old one are named, and not taken", async () => {
  using box = node();
  await packed(["--passphrase-file", "/passphrase"]);
  const later = Date.now() + 2 * 24 * 3600_000;
  using _clock = spyOn(Date, "now").mockReturnValue(later);
  await main(["unpack", FILE, "--passphrase-file", "/passphrase"]);
  expect(said()).toEqual([]);
  expect(box.said.join("\n")).toMatch(
    /did not take words, as the bundle is old: as said at .*: cp3 is away; as said/,
  );
});

test("what was said here later, or has ended here since, a bundle does not change", async () => {
  using box = node();
  await packed(["--passphrase-file", "/passphrase"]);
  const [at, made] = ["2999-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"];
  const [lost, flag] = [
    { option: "lost", value: "cp3", at, by: "plan", on: "cp2" },
    { option: "start-without", value: "tracing-config-file", at: made, over: at, why: "its flag is back" },
  ];
  const file = `/root/kube-pki-repair-20260101T000000/${WORDS_FILE}`;
  writeFile(file, JSON.stringify({ made, said: [lost], over: [flag] }), { mode: 0o600, note: "of cp2" });
  box.said.length = 0;
  await main(["unpack", FILE, "--passphrase-file", "/passphrase"]);
  expect(exists(file)).toBe(true);
  expect(said()).toEqual(["lost cp3 cp2"]);
  expect(box.said.join("\n")).not.toContain("what was said:");
});
