/** What the operator has said: once, kept, known to later runs, ended by facts. */
import { expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import * as words from "../../../shared/node/words.ts";
import { type SavedOptionName, savedOptionLine } from "../../../shared/node/words.ts";
import { mode } from "../../../shared/run.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const AT = "20260101T000000";
function nextRun() {
  Object.assign(mode, { began: new Date(), script: "" });
}

const valuesOf = (option: SavedOptionName) => words.savedOptionsOf(option).map(({ value }) => value);

function quiet<T>(look: (said: string[]) => T): T {
  const said: string[] = [];
  const ear = spyOn(console, "error").mockImplementation((line: string) => void said.push(line.trim()));
  try {
    return look(said);
  } finally {
    ear.mockRestore();
  }
}

test("typed once, known to a later run; the later of two words for a node counts; a fact ends it", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/root/kube-pki-repair-${AT}`, { recursive: true });
  quiet((said) => {
    nextRun();
    words.useTypedOptions({ without: ["cp3", "w1"], endpoint: "lb:6443" });
    expect(valuesOf("without")).toEqual(["cp3", "w1"]);
    nextRun();
    expect(words.savedOptionsHere()).toEqual([]);
    words.useTypedOptions({ without: ["cp3", "w1"], endpoint: "lb:6443" });
    words.saveTypedOptions("cp1");
    const [name] = new Bun.Glob("*/words.json").scanSync({ cwd: `${box.dir}/root`, dot: true });
    const file = `${box.dir}/root/${name}`;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(file, "utf8")).said[0]).toMatchObject({
      option: "without",
      value: "cp3",
      on: "cp1",
    });
    nextRun();
    expect(savedOptionLine(words.savedOptionOf("endpoint")!)).toMatch(
      /^as said at \d\d:\d\d \(.+, on cp1\): the API is reached at lb:6443$/,
    );
    words.useTypedOptions({ lost: ["cp3"] });
    expect([valuesOf("without"), valuesOf("lost")]).toEqual([["w1"], ["cp3"]]);
    words.endSavedOptions(({ value }) => value === "w1", "it renews its Lease");
    nextRun();
    expect(valuesOf("without")).toEqual(["cp3"]);
    expect(said).toContainEqual(expect.stringMatching(/w1 is away: not any more, it renews its Lease$/));
  });
});

test("before a script has changed this node it is kept in memory, and on the disk from then on; of root alone", () => {
  using box = sandbox();
  const [memory, folder] = [`${box.dir}/run/kube-pki-repair-words.json`, `${box.dir}/root`];
  const modeOf = (path: string) => statSync(path).mode & 0o777;
  quiet(() => {
    nextRun();
    words.useTypedOptions({ without: ["cp3"] });
    words.saveTypedOptions("cp1");
    expect([modeOf(memory), existsSync(folder)]).toEqual([0o600, false]);
    nextRun();
    mode.script = "01-etcd";
    words.saveTypedOptions("cp1");
    expect([existsSync(memory), existsSync(folder)]).toEqual([true, false]);
    mkdirSync(`${folder}/kube-pki-repair-${AT}`, { recursive: true });
    nextRun();
    words.saveTypedOptions("cp1");
    expect([existsSync(memory), valuesOf("without")]).toEqual([false, ["cp3"]]);
    const [name] = new Bun.Glob("*/words.json").scanSync({ cwd: folder });
    expect(modeOf(`${folder}/${name}`)).toBe(0o600);
  });
});

test("of files given up: what was said first stays, and more files come to it; without files it says nothing", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/root`);
  const flag = "service-account-key-file";
  const say = (...files: string[]) => {
    nextRun();
    words.useTypedOptions({ "start-without": [flag] });
    words.saveTypedOptions("cp1", new Map([[flag, files]]));
    nextRun();
    return words.savedOptionsOf("start-without");
  };
  quiet(() => {
    expect(say()).toEqual([]);
    const [first] = say("/a.pub");
    expect(say("/a.pub")).toEqual([first!]);
    expect(say("/b.pub")).toMatchObject([{ files: ["/a.pub", "/b.pub"] }]);
  });
});

test("a word of a later kit is none; a file that is no JSON is named, not passed over", () => {
  using box = sandbox();
  const folder = `${box.dir}/root/kube-pki-repair-${AT}`;
  mkdirSync(folder, { recursive: true });
  nextRun();
  writeFileSync(`${folder}/words.json`, "{");
  expect(() => words.savedOptionsHere()).toThrow("is no JSON");
  writeFileSync(
    `${folder}/words.json`,
    JSON.stringify({ made: "2026-01-01T00:00:00Z", said: [{ option: "later", value: "x" }], over: [] }),
  );
  expect(words.savedOptionsHere()).toEqual([]);
});

test("where nothing can be written, what a script has heard or ended is said, and none that only looks stops for it", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/root`);
  quiet((said) => {
    nextRun();
    words.useTypedOptions({ without: ["cp3"] });
    words.saveTypedOptions("cp1");
    nextRun();
    using _full = spyOn(fs, "openSync").mockImplementation(() => {
      throw Object.assign(new Error("EROFS"), { code: "EROFS" });
    });
    words.endSavedOptionsOf(["cp3"]);
    expect(said.at(-2)).toEndWith("cp3 is away: not any more, it renews its Lease");
    expect(said.at(-1)).toStartWith("could not save your words: ");
  });
});
