/** What an operator types does what it says, whatever names others have chosen: bash is asked. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { command } from "../../shared/again.ts";
import { onOther, shell } from "../../shared/shell-line.ts";
import { putManifest } from "../../shared/static-pods/lost-nodes.ts";
import { restoreCommands } from "../../shared/static-pods/without-files.ts";

/** The words that bash makes of a line. */
function wordsOf(line: string): string[] {
  const { stdout, stderr } = spawnSync("bash", ["-c", `printf '%s\\0' ${line}`], {
    encoding: "utf8",
    env: { LC_ALL: "C.UTF-8" },
  });
  expect(stderr).toBe("");
  return stdout.split("\0").slice(0, -1);
}

const HOSTILE = [
  "/a b",
  "/x;reboot;#",
  "/$(reboot)`reboot`",
  "/it's",
  '/say "x"',
  "/back\\slash",
  "~root",
  "*",
  "{a,b}",
  "",
  "/line\nbreak",
  "/tab\there",
  "/\u001b[2J'\\n",
  "/\u202egnp",
];

test.each(HOSTILE)("%j is one word to bash, in one line, and nothing that a terminal obeys", (name) => {
  const word = shell`${name}`;
  expect(wordsOf(word)).toEqual([name]);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the test looks for them
  expect(word).not.toMatch(/[\x00-\x1f\u202e]/);
});

test("a name that needs no quotes has none", () => {
  for (const name of [
    "w1",
    "/etc/kubernetes/pki/ca.crt",
    "fd00::1",
    "10.0.0.1:6443",
    "a=b",
    "x@y",
    "v1.34.1+k3s1",
    "a,b",
    "50%",
  ])
    expect(shell`${name}`).toBe(name);
  expect(shell`rm ${["/a", "/b c"]} # ${"x"}`).toBe("rm /a '/b c' # x");
  expect(shell`rm ${[]}x`).toBe("rm x");
});

test("a value that begins with - is no option: it stands behind --, or behind the = of its option", () => {
  expect(
    shell`kubectl get csr -o yaml ${"--profile=heap"} ${"--profile-output=shared-keys.age"}; rm ${"-rf"}`,
  ).toBe("kubectl get csr -o yaml -- --profile=heap --profile-output=shared-keys.age; rm -- -rf");
  expect(shell`rm ${["/a", "-b c"]} /d && ls ${["-e"]}`).toBe("rm -- /a '-b c' /d && ls -- -e");
  expect(shell`./bunw x.ts --lost ${"-a,b"} --out=${"-c"}`).toBe("./bunw x.ts --lost=-a,b --out=-c");
  expect(shell`kubectl -n ${"-a"} get secret ${"-b"}-$k`).toBe("kubectl -n-a get secret -- -b-$k");
  expect(shell`scp root@${"-a"}:${"-b"} /${"-c"}`).toBe("scp root@-a:-b /-c");
});

test("a line for another machine is a line to its shell, too", () => {
  expect(onOther("m2", shell`tar -cf - ${["a", "b/c"]}`)).toBe("ssh root@m2 tar -cf - a b/c");
  const [, , line] = wordsOf(onOther("m2", shell`tar -cf - ${HOSTILE}`));
  expect(wordsOf(line!)).toEqual(["tar", "-cf", "-", ...HOSTILE]);
});

test.each(HOSTILE.slice(0, 6))("%j as a name or a path stays one in the lines that are printed", (name) => {
  const file = {
    path: `/etc${name}`,
    kind: "file",
    program: "kube-apiserver",
    without: "",
    inside: "",
  } as const;
  const lost = [{ ...file, namedBy: "--kubelet-certificate-authority" }];
  const [fromOther, , install] = restoreCommands(lost, { mounted: [], others: [name], pki: "/pki" }).map(
    (todo) => todo.command,
  );
  expect(wordsOf(fromOther!.replace(/ \| tar .*/, ""))).toEqual([
    "ssh",
    `root@${name}`,
    expect.stringContaining("tar -C / -cf - "),
  ]);
  expect(wordsOf(install!).at(-1)).toBe(file.path);
  const node = { kubelet: { staticPodPath: file.path } };
  const put = putManifest(file.path, name, { node } as Parameters<typeof putManifest>[2]);
  expect(wordsOf(put)).toEqual(["scp", "-p", file.path, `root@${name}:${file.path}/`]);
  expect(wordsOf(command("02-control-plane", { without: ["m2", name] }))).toEqual([
    "./bunw",
    "scripts/02-control-plane.ts",
    "--without",
    `m2,${name}`,
  ]);
  expect(wordsOf(command("00-assess", { "etcd-data": name }))).toEqual([
    "./bunw",
    "scripts/00-assess.ts",
    "--etcd-data",
    name,
  ]);
});
