import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { failOf } from "../../../shared/fail.ts";
import { readText, stat, writeFile } from "../../../shared/files/files.ts";
import { type PathUse, refuseOthers, secretIn, writeTyped } from "../../../shared/files/operator-files.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";

const HIS = 1234;
const USES: PathUse[] = ["secret", "trusted", "proved", "written", "public"];

let box: Sandbox;
const sudo = process.env.SUDO_UID;

beforeEach(() => {
  delete process.env.SUDO_UID;
  box = sandbox();
  for (const folder of ["root", "tmp", "mnt/x", "etc", "tmp/his", "open"])
    fs.mkdirSync(`${box.dir}/${folder}`, { recursive: true });
  fs.chmodSync(`${box.dir}/tmp`, 0o1777);
  fs.chmodSync(`${box.dir}/open`, 0o777);
  fs.writeFileSync(`${box.dir}/etc/ca.key`, "key", { mode: 0o600 });
  give("/tmp/his");
});

afterEach(() => {
  if (sudo === undefined) delete process.env.SUDO_UID;
  else process.env.SUDO_UID = sudo;
  box[Symbol.dispose]();
});

function give(path: string, uid = HIS) {
  fs.lchownSync(box.dir + path, uid, uid);
}

function file(path: string, uid = 0, mode = 0o600) {
  fs.writeFileSync(box.dir + path, "content", { mode });
  fs.chmodSync(box.dir + path, mode);
  give(path, uid);
}

function link(path: string, target: string, uid = 0) {
  fs.symlinkSync(target, box.dir + path);
  give(path, uid);
}

/** The uses for which this path is refused with these words. */
function refused(path: string, words: RegExp): PathUse[] {
  return USES.filter((use) => {
    try {
      refuseOthers(path, use);
      return false;
    } catch (err) {
      expect(String(err)).toMatch(words);
      expect(err).toMatchObject({ exitCode: 3 });
      return true;
    }
  });
}

const asRoot = test.skipIf(process.getuid?.() !== 0);

asRoot("a link of somebody else to a file of root's", () => {
  link("/tmp/out", "/etc/ca.key", HIS);
  expect(refused("/tmp/out", /"\/tmp\/out": it is a link of user 1234 to "\/etc\/ca\.key"/)).toEqual(USES);
});

asRoot("a link of somebody else on the way, to a folder of root's", () => {
  link("/tmp/way", "/etc", HIS);
  expect(refused("/tmp/way/ca.key", /"\/tmp\/way": it is a link of user 1234/)).toEqual(USES);
  expect(refused("/tmp/way/new", /"\/tmp\/way": it is a link of user 1234/)).toEqual(USES);
});

asRoot("a link of somebody else to what is not there yet", () => {
  link("/tmp/out", "/etc/kubernetes/manifests/x.yaml", HIS);
  expect(refused("/tmp/out", /it is a link of user 1234/)).toEqual(USES);
});

asRoot(
  "a file of somebody else: only what proves itself is taken of it, also by a link of his; metrics replace it",
  () => {
    file("/tmp/out", HIS);
    expect(refused("/tmp/out", /"\/tmp\/out": it belongs to user 1234/)).toEqual([
      "secret",
      "trusted",
      "written",
    ]);
    link("/tmp/link", "out", HIS);
    expect(refused("/tmp/link", /"\/tmp\/link": it is a link/)).toEqual([
      "secret",
      "trusted",
      "written",
      "public",
    ]);
  },
);

asRoot(
  "a folder of somebody else, or one where all may rename: no secret, nothing trusted, and only metrics are written there",
  () => {
    expect(refused("/tmp/his/out", /"\/tmp\/his": it belongs to user 1234/)).toEqual([
      "secret",
      "trusted",
      "written",
    ]);
    expect(refused("/open/out", /"\/open": others can write there/)).toEqual([
      "secret",
      "trusted",
      "written",
    ]);
  },
);

asRoot(
  "a file that is right becomes root's by the hint; for a folder there is only another place",
  async () => {
    file("/root/conf.yaml", 0, 0o666);
    const hintFor = async (path: string, use: PathUse) => (await failOf(() => refuseOthers(path, use)))!.hint;
    const [own, other] = ["chown root /root/conf.yaml; chmod go-w /root/conf.yaml", "such as your home"];
    expect(await hintFor("/root/conf.yaml", "trusted")).toContain(`${other}; or, if it is right: ${own}. `);
    expect(await hintFor("/tmp/his/out", "trusted")).toEndWith(`${other}. Then run the same line again`);
  },
);

asRoot("a copy that others can write is not trusted; one on a stick without owners is", () => {
  file("/root/conf.yaml", 0, 0o666);
  expect(refused("/root/conf.yaml", /others can write there/)).toEqual(["trusted"]);
  file("/mnt/x/conf.yaml", 0, 0o755);
  expect(refused("/mnt/x/conf.yaml", /./)).toEqual([]);
});

asRoot("root's own links, a new file in /tmp, a group of root's, etcd's own folder", () => {
  link("/root/keys", "/mnt/x");
  expect(refused("/root/keys/new", /./)).toEqual([]);
  expect(refuseOthers("/root/keys/new", "written")).toBe("/mnt/x/new");
  expect(refused("/tmp/new", /./)).toEqual([]);
  fs.chmodSync(`${box.dir}/mnt/x`, 0o775);
  expect(refused("/mnt/x/new", /./)).toEqual([]);
  expect(refused("/nowhere/at/all", /./)).toEqual([]);
});

asRoot("who typed sudo is no stranger", () => {
  file("/tmp/his/pass", HIS);
  expect(refused("/tmp/his/pass", /belongs to user 1234/)).toContain("secret");
  process.env.SUDO_UID = String(HIS);
  expect(refused("/tmp/his/pass", /./)).toEqual([]);
  expect(secretIn("/tmp/his/pass")).toBe("content");
});

asRoot("whoever runs this without root is no stranger either", () => {
  file("/tmp/his/pass", HIS);
  using _user = spyOn(process, "getuid").mockReturnValue(HIS);
  expect(refused("/tmp/his/pass", /./)).toEqual([]);
});

asRoot("what is written is ours, whoever had it", () => {
  file("/root/report", 0, 0o644);
  link("/root/link", "report");
  writeTyped("/root/link", "new", { mode: 0o600 });
  expect(readText("/root/report")).toBe("new");
  expect(stat("/root/report")).toMatchObject({ uid: 0, mode: 0o600 });
  process.env.SUDO_UID = String(HIS);
  file("/tmp/his/token", HIS, 0o644);
  writeTyped("/tmp/his/token", "token", { mode: 0o600 });
  expect(stat("/tmp/his/token")).toMatchObject({ uid: 0, mode: 0o600 });
});

asRoot("a link that appears after the look is replaced, not followed", () => {
  link("/tmp/out", "/etc/ca.key", HIS);
  writeFile("/tmp/out", "new", { mode: 0o600, replace: true });
  expect([readText("/tmp/out"), readText("/etc/ca.key")]).toEqual(["new", "key"]);
});

asRoot("metrics go into a service's folder, and what it has beside them stays", () => {
  fs.mkdirSync(`${box.dir}/tmp/his/.x.prom.99999999.kube-pki-repair.partial`);
  give("/tmp/his/.x.prom.99999999.kube-pki-repair.partial");
  writeTyped("/tmp/his/x.prom", "metrics", { mode: 0o644, use: "public" });
  expect(stat("/tmp/his/x.prom")).toMatchObject({ uid: 0, mode: 0o644 });
  expect(fs.existsSync(`${box.dir}/tmp/his/.x.prom.99999999.kube-pki-repair.partial`)).toBe(true);
  link("/tmp/his/y.prom", "/etc/ca.key", HIS);
  expect(() => writeTyped("/tmp/his/y.prom", "metrics", { mode: 0o644, use: "public" })).toThrow(
    /link of user 1234/,
  );
  expect(readText("/etc/ca.key")).toBe("key");
});

asRoot("a secret that others can read", () => {
  file("/root/pass", 0, 0o640);
  expect(() => secretIn("/root/pass")).toThrow('Others can read "/root/pass"');
  expect(() => secretIn("/root/none")).toThrow('There is no file "/root/none"');
});
