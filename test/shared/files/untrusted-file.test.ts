/** Files that others have named: read only where they are files, and small. */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { mountsOf } from "../../../shared/files/file-system.ts";
import { setRoot, writeFile } from "../../../shared/files/files.ts";
import { smallText, textsHere } from "../../../shared/files/untrusted-file.ts";
import { mode } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { write } from "../../pretend/cluster.ts";
import { USER } from "../../pretend/memory.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** Milliseconds. Thousands of files take a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

test("only a regular file is read, a link to one is one, and none that is larger than asked for", () => {
  using box = sandbox();
  const at = (name: string) => `${box.dir}/${name}`;
  writeFileSync(at("text"), "12345");
  symlinkSync("/text", at("link"));
  symlinkSync("/nowhere", at("dangling"));
  symlinkSync("../../../../../../dev/zero", at("outside"));
  mkdirSync(at("folder"));
  spawnSync("mkfifo", [at("pipe")]);
  spawnSync("mknod", [at("zero"), "c", "1", "5"]);
  expect(["text", "link"].map((name) => smallText(`/${name}`))).toEqual(["12345", "12345"]);
  expect([smallText("/text", 5), smallText("/text", 4)]).toEqual(["12345", undefined]);
  for (const size of [16_383, 16_384, 16_385, 65_536, 65_537, 300_000]) {
    const text = Buffer.alloc(size, "0123456789").toString();
    writeFileSync(at("text"), text);
    expect([smallText("/text"), smallText("/text", size), smallText("/text", size - 1)]).toEqual([
      text,
      text,
      undefined,
    ]);
  }
  const none = ["dangling", "outside", "folder", "pipe", "zero", "missing", "text/below"];
  expect(none.map((name) => smallText(`/${name}`))).toEqual(none.map(() => undefined));
});

test("what a dry run would have written is read, and too much of it is not", () => {
  using _ = sandbox();
  mode.dryRun = true;
  try {
    writeFile("/new", "12345");
    expect([smallText("/new"), smallText("/new", 4)]).toEqual(["12345", undefined]);
  } finally {
    mode.dryRun = false;
  }
});

test("a process that has ended, and that nobody has waited for, has no mounts", async () => {
  setRoot("/");
  const parent = Bun.spawn(["bash", "-c", "sleep 0.2 & echo $!; exec sleep 300"], { stdout: "pipe" });
  try {
    const { value } = await parent.stdout.getReader().read();
    const child = Number(new TextDecoder().decode(value));
    const isZombie = () => readFileSync(`/proc/${child}/stat`, "utf8").includes(") Z ");
    await waitFor("the child to end", isZombie, { seconds: 60, hint: "wait: wait: it ends by itself" });
    expect(mountsOf(process.pid)).not.toEqual([]);
    expect(mountsOf(child)).toEqual([]);
  } finally {
    leaveNode();
    parent.kill();
  }
});

test("links without an end are an error that says so", () => {
  using box = sandbox();
  symlinkSync("/loop", `${box.dir}/loop`);
  expect(() => smallText("/loop")).toThrow(Fail);
});

// ---- people's folders ----

const HIS = "/home/ann/.kube";
const asRoot = process.getuid?.() === 0;

/** Each path with its text's length, or with why it was not seen. */
const seenHere = () =>
  Object.fromEntries(
    textsHere().map((one) => [one.path, "unseen" in one ? one.unseen : one.text.length] as const),
  );

/** Longer than a path can be: so each folder is entered by its own name. */
function endless(at: string) {
  const made = spawnSync("sh", [
    "-ec",
    `cd "$0"; for i in $(seq 20); do mkdir ${"x".repeat(250)}; cd -P ${"x".repeat(250)}; done`,
    at,
  ]);
  expect(made.status).toBe(0);
}

/** Whichever comes first on this machine. */
const TOO_MUCH = expect.stringMatching(/^more than (2000 files|2 s)$/);

const IN_A_HOME: [what: string, lay: (at: string) => void, seen: Record<string, unknown>][] = [
  ["nothing", () => {}, {}],
  [
    "what is no file",
    (at) => {
      spawnSync("mkfifo", [`${at}/pipe`]);
      symlinkSync("loop", `${at}/loop`);
      symlinkSync("/etc/other", `${at}/file`);
      symlinkSync("/etc", `${at}/folder`);
      symlinkSync("..", `${at}/up`);
    },
    {},
  ],
  ["a file that is too large", (at) => truncateSync(created(`${at}/a`), (1 << 20) + 1), {}],
  ["what kubectl keeps", (at) => write(`${at}/cache/discovery/x/servergroups.json`, "10.0.0.1"), {}],
  ["folders down to the fifth", (at) => write(`${at}/1/2/3/4/a`, "12"), { [`${HIS}/1/2/3/4/a`]: 2 }],
  ["folders without end", endless, { [HIS]: "more than 5 folders below each other" }],
  [
    "3,000 files, which are empty blocks",
    (at) => {
      for (let i = 0; i < 3000; i++) truncateSync(created(`${at}/${i}`), 1 << 20);
    },
    { [HIS]: TOO_MUCH },
  ],
  [
    "3,000 folders",
    (at) => {
      for (let i = 0; i < 3000; i++) mkdirSync(`${at}/${i}`);
    },
    { [HIS]: TOO_MUCH },
  ],
];

function created(path: string): string {
  writeFileSync(path, "");
  return path;
}

test.each(IN_A_HOME)(
  "a home with %s: what it is not, or is too much, is left out, and the rest is seen",
  (_, lay, seen) => {
    using box = sandbox();
    write(`${box.dir}${HIS}/config`, "123");
    write(`${box.dir}/etc/other`, "1");
    write(`${box.dir}/home/bob/.kube/config`, "1234");
    lay(box.dir + HIS);
    const blocks = (path: string) => /^\/home\/ann\/\.kube\/\d+$/.test(path);
    const found = Object.entries(seenHere()).filter(([path]) => !blocks(path));
    spawnSync("rm", ["-rf", `${box.dir}${HIS}`]);
    expect(Object.fromEntries(found)).toEqual({
      ...{ "/etc/other": 1, [`${HIS}/config`]: 3, ...seen, "/home/bob/.kube/config": 4 },
    });
  },
);

test("no home takes longer than two seconds", () => {
  using box = sandbox();
  for (const name of ["a", "b", "c"]) write(`${box.dir}${HIS}/${name}`, "123");
  let now = 0;
  using _clock = spyOn(performance, "now").mockImplementation(() => (now += 900));
  expect(seenHere()).toEqual({ [`${HIS}/a`]: 3, [HIS]: "more than 2 s" });
});

/** As root nothing here can be kept from being read: so the same as another user. */
function seenAs(uid: number, root: string) {
  const program = `
    const { setRoot } = await import("${join(import.meta.dir, "../../../shared/files/files.ts")}");
    const { textsHere } = await import("${join(import.meta.dir, "../../../shared/files/untrusted-file.ts")}");
    setRoot("${root}");
    console.log(JSON.stringify([...textsHere()]));`;
  const as = asRoot ? ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"] : [];
  const { stdout, stderr } = Bun.spawnSync([...as, process.execPath, "-e", program], { cwd: "/" });
  return { all: stdout.toString() && JSON.parse(stdout.toString()), stderr: stderr.toString() };
}

test("a home, or a folder in it, that keeps us out is not seen, and named; one of the node's own is an error", () => {
  using box = sandbox();
  for (const home of ["/home/ann", "/home/bob", "/home/cid"])
    write(`${box.dir}${home}/.kube/config`, "1", 0o644);
  write(`${box.dir}/home/bob/.kube/more/a`, "1", 0o644);
  write(`${box.dir}/etc/a`, "1", 0o644);
  chmodSync(`${box.dir}`, 0o755);
  for (const path of ["/home/ann", "/home/bob/.kube/more", "/home/cid/.kube/config"])
    chmodSync(box.dir + path, 0);
  const denied = "EACCES: permission denied";
  expect(seenAs(65534, box.dir).all).toEqual([
    { path: "/etc/a", text: "1" },
    { path: "/home/ann/.kube", unseen: denied },
    { path: "/home/bob/.kube/config", text: "1" },
    { path: "/home/bob/.kube", unseen: denied },
    { path: "/home/cid/.kube", unseen: denied },
  ]);
  chmodSync(`${box.dir}/home`, 0);
  expect(seenAs(65534, box.dir).all).toEqual([
    { path: "/etc/a", text: "1" },
    { path: "/home", unseen: expect.stringMatching(/^Cannot list \/home: EACCES/) },
  ]);
  mkdirSync(`${box.dir}/etc/own`);
  if (asRoot) chownSync(`${box.dir}/etc/own`, 65534, 65534);
  chmodSync(`${box.dir}/etc/own`, 0);
  expect(seenAs(65534, box.dir).stderr).toContain("Cannot list /etc/own: EACCES");
});

test.skipIf(!asRoot)("a folder of somebody else below /etc is looked at as a home is", () => {
  using box = sandbox();
  write(`${box.dir}/etc/app/a`, "12");
  chownSync(`${box.dir}/etc/app`, USER, USER);
  endless(`${box.dir}/etc/app`);
  const seen = seenHere();
  spawnSync("rm", ["-rf", `${box.dir}/etc/app`]);
  expect(seen).toEqual({ "/etc/app/a": 2, "/etc/app": "more than 5 folders below each other" });
});
