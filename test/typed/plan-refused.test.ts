/**
 * The plan prints no line that would be refused for a reason that can be known before the first stop: what needs a
 * decision, or is to be mended, comes first, and there are no steps behind it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { linesOfRunbook, readPlanData } from "../../shared/follow/trusted-plan.ts";
import { certInfo } from "../../shared/pki/certificate.ts";
import type { PlanData } from "../../shared/plan/plan-answer.ts";
import { mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { gone } from "../pretend/in-process.ts";
import { CRICTL, KUBEADM_UNIT, type NodeOptions, pretendNode, SHOWN_ADDRESS } from "../pretend/node.ts";
import { ASKED, AT, MEMBERS, pasted, three } from "../pretend/plan.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

type Json = Record<string, unknown>;

/** A question with numbers says nothing of lines that a person types. */
const OF_LINES =
  /:$|print the plan|line below|other lines|th(?:is|ese) (?:brings|prints|does)|lines? (?:brings?|does)/i;

function askedIn({ stdout }: { stdout: string }): string[] {
  return (JSON.parse(stdout) as PlanData).decisions.flatMap(({ question }) => question);
}

/** One of three control plane nodes, whose etcd runs on all. */
async function oneOfThree(options: NodeOptions = {}, others: ("m2" | "m3")[] = ["m2", "m3"]) {
  const node = here(await pretendNode({ ...ASKED, kind: "healthy control plane node", ...options }));
  const state = { ...sameEtcd(node.stored), members: [...MEMBERS] };
  const servers = [
    serveEtcd(node.root, state as never),
    ...(await Promise.all(others.map((name) => serveOtherMember(node.root, state as never, AT[name])))),
  ];
  return Object.assign(node, {
    plan: (words = "") => node.run(`plan ${words}`.trim()),
    /** These nodes answer as this one does, with a difference. */
    async answers(others: Record<string, Json | "">) {
      const said = JSON.parse((await node.run("00-assess --deep --no-disk --json")).stdout) as Json;
      const hashes = [certInfo(node.ca.cert).publicKeyHash];
      mkdirSync(`${node.root}/root/seen`, { recursive: true, mode: 0o700 });
      for (const [name, more] of Object.entries(others)) {
        const text =
          more === ""
            ? ""
            : JSON.stringify({
                ...said,
                node: name,
                made: new Date().toISOString(),
                ca: { hashes },
                ...more,
              });
        writeFileSync(`${node.root}/root/seen/${name}.json`, text);
      }
    },
    [Symbol.dispose]() {
      for (const server of servers) server[Symbol.dispose]();
      rmSync(node.root, { recursive: true, force: true });
    },
  });
}

const aimIn = (stdout: string) => /^\*\*(.+)\*\*$/m.exec(stdout)?.[1]?.replaceAll("\\", "");

const FRONT_PROXY = ["ca.crt", "ca.key", "client.crt", "client.key"].map((end) => `pki/front-proxy-${end}`);

test("the front proxy's CA is lost on one of three whose etcd lives: the others are looked at first, and part 1's line says who was", async () => {
  using node = await oneOfThree();
  gone(...FRONT_PROXY)(node);
  const first = await node.plan();
  expect([first.exitCode, aimIn(first.stdout)]).toEqual([
    3,
    "Look at m2, m3 first: etcd runs there, or seems to, so front-proxy-ca.key may still be there",
  ]);
  expect(pasted(first.stdout).join("\n")).not.toContain("01-etcd");
  await node.answers({ m2: {}, m3: {} });
  const { stdout } = await node.plan("--seen /root/seen");
  expect(pasted(stdout)).toContain("m1# 01-etcd.ts --new-internal-cas --lost-on m2,m3");
  const part1 = await node.run("01-etcd --new-internal-cas --lost-on m2,m3 --dry-run");
  expect([part1.exitCode, part1.stderr]).toEqual([0, expect.stringContaining("done: nothing was changed")]);
});

test("where another one has it, the plan is made there", async () => {
  using node = await oneOfThree();
  gone(...FRONT_PROXY)(node);
  const damage = [{ id: "certificate-apiserver", what: "apiserver.crt", state: "!MISSING!" }];
  await node.answers({ m2: { damage, deep: undefined, survivors: [] }, m3: {} });
  const { exitCode, stdout } = await node.plan("--seen /root/seen");
  expect([exitCode, aimIn(stdout)]).toEqual([3, "Make this plan on m2: it has front-proxy-ca.key"]);
});

const SA_2024 = "/etc/kubernetes/pki/sa-2024.pub";

/** A key that kubeadm never made: a flag names it, and it is lost here. */
function namesSa2024(objects: Objects) {
  three(objects);
  const pod = mirrorPod("kube-apiserver");
  pod.spec.containers[0]!.command!.push(`--service-account-key-file=${SA_2024}`);
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
}

/** The trial's: certificates are lost, and so is the file; m3 was asked and is off, or said to be away. */
const lostFile = (options: NodeOptions = {}) => oneOfThree({ etcd: namesSa2024, ...options });
const LEAF = "pki/apiserver.crt";
const LOST_HERE = { lostFiles: [{ path: SA_2024 }, { path: "/etc/passwd" }] };

const notesIn = (stdout: string) =>
  [...stdout.matchAll(/^> (.+)\n(?:\n```sh\n([\s\S]*?)\n```)?/gm)].map(([, text, line = ""]) => ({
    text: text!.replaceAll("\\", ""),
    line: line.replaceAll("cd /run/kube-pki-repair && ", ""),
  }));

test("a lost file that nobody seen has is a decision before any step: who may have it, and what its loss loosens", async () => {
  using node = await lostFile();
  gone(LEAF)(node);
  await node.answers({ m2: LOST_HERE });
  const { exitCode, stdout } = await node.plan("--seen /root/seen --without m3");
  expect([exitCode, aimIn(stdout)]).toEqual([3, `Decide first about lost files: ${SA_2024}`]);
  expect(pasted(stdout).join("\n")).not.toMatch(/01-etcd|02-control|pgrep -x etcd/);
  const notes = notesIn(stdout);
  expect(notes.map(({ text }) => text)).toEqual([
    expect.stringContaining("One command looks at all nodes"),
    `${SA_2024} (kube-apiserver --service-account-key-file) is lost on m1, m2, and kube-apiserver does not start without it. kubeadm did not make it. m3 is away, and may have it.`,
    "From your own copies, which lie in the folder DIR of that node:",
    expect.stringMatching(
      /^If nobody has them, this prints the plan with lines that start the API server without the flags that name them \(--service-account-key-file: tokens that the key in it has signed are refused\. /,
    ),
  ]);
  const asked = askedIn(await node.plan("--json --seen /root/seen --without m3"));
  expect([asked.length, asked.filter((text) => OF_LINES.test(text))]).toEqual([2, []]);
  expect(notes[3]!.line).toBe(
    "# on m1:\n./bunw scripts/plan.ts --seen /root/seen --start-without service-account-key-file",
  );
  expect(stdout).not.toContain("/etc/passwd");
});

test("given up, part 1 and part 2 know it on this node, and take the word on their own lines", async () => {
  using node = await lostFile({ containers: ["etcd", "kube-apiserver"] });
  gone(LEAF)(node);
  await node.answers({ m2: LOST_HERE });
  const word = "--start-without service-account-key-file";
  const { exitCode, stdout } = await node.plan(`--seen /root/seen --without m3 ${word}`);
  expect(exitCode).toBe(2);
  for (const script of ["01-etcd", "02-control-plane"]) expect(pasted(stdout)).toContain(`m1# ${script}.ts`);
  for (const line of [
    "01-etcd",
    "02-control-plane",
    `01-etcd ${word}`,
    `02-control-plane --without m3 ${word}`,
  ])
    expect((await node.run(`${line} --dry-run`)).exitCode).toBe(0);
});

test("a node that was seen not to lack it gives it, by a line for your machine", async () => {
  using node = await lostFile();
  gone(LEAF)(node);
  await node.answers({ m2: { lostFiles: [] }, m3: LOST_HERE });
  const [, note] = notesIn((await node.plan("--seen /root/seen")).stdout);
  const to = (at: string) =>
    `set -o pipefail; ssh -n root@${AT.m2} 'tar -C /etc/kubernetes/pki -cf - sa-2024.pub' | ssh root@${at} 'tar -C /etc/kubernetes/pki -xpkf - sa-2024.pub'`;
  expect(note!.text).toContain(
    "is lost on m1, m3, and kube-apiserver does not start without it. kubeadm did not make it. Not lost on m2, as was seen. Typed on your machine",
  );
  expect(note!.line.split("\n")).toEqual(["# on your machine:", to(SHOWN_ADDRESS), to(AT.m3)]);
});

const CONFIG = "/etc/kubernetes/kubelet-config.yaml";
const NO_CONFIG = {
  lostFiles: [{ path: CONFIG }],
  refusals: [{ part: 1, id: "place", message: "The kubelet cannot start", hint: "bring it back" }],
};

/** Of the API server's files a worker knows nothing. */
const WORKERS_LOST = {
  damage: [CONFIG, "/etc/kubernetes/audit-policy.yaml"].map((what) => ({
    id: "lost-file",
    what,
    result: "failed",
  })),
};

test.each([
  [
    "lost on all",
    { m2: NO_CONFIG, m3: NO_CONFIG },
    "lost on m1, m2, m3, and its kubelet does not start without it. kubeadm did not make it. No other control plane node has it. A worker may have one: read it first",
    [],
  ],
  [
    "lost on all, workers, too",
    { m2: NO_CONFIG, m3: NO_CONFIG, w1: WORKERS_LOST, w2: WORKERS_LOST },
    "lost on m1, m2, m3, w1, w2, and its kubelet does not start without it. kubeadm did not make it. No other control plane node has it.",
    [],
  ],
  [
    "left on one",
    { m2: NO_CONFIG, m3: { lostFiles: [] } },
    "lost on m1, m2, and its kubelet does not start without it. kubeadm did not make it. Not lost on m3, as was seen.",
    [SHOWN_ADDRESS, AT.m2],
  ],
])(
  "the kubelet's configuration is %s: one decision, and no refusal for the same file",
  async (_, seen, says, to) => {
    const unit = KUBEADM_UNIT.replaceAll("/var/lib/kubelet/config.yaml", CONFIG);
    using node = await oneOfThree({ commands: [{ command: "systemctl cat kubelet", stdout: unit }] });
    gone(LEAF)(node);
    await node.answers(seen);
    const { exitCode, stdout } = await node.plan("--seen /root/seen");
    expect([exitCode, aimIn(stdout)]).toEqual([3, `Decide first about lost files: ${CONFIG}`]);
    const notes = notesIn(stdout);
    expect(notes.map(({ text }) => text).join("\n")).toContain(says);
    expect(
      notes
        .filter(({ text }) => /^On m\d, part 1 would refuse/.test(text))
        .map(({ text }) => text.slice(0, 5)),
    ).toEqual([]);
    const kubeadms = notes.find(({ text }) =>
      text.startsWith(`Only if nobody has ${CONFIG}. This is kubeadm's`),
    );
    expect(kubeadms?.line).toContain(`install -D -m 600 /var/lib/kubelet/config.yaml ${CONFIG}`);
    expect(kubeadms?.line.split("\n").filter((line) => line.includes("install -D"))).toHaveLength(
      / lost on ([^.]+), and /.exec(`x ${says}`)![1]!.split(", ").length,
    );
    const lines = notes
      .find(({ text }) => text.includes(says))!
      .line.split("\n")
      .filter((line) => line.includes(" | "));
    expect(lines.map((line) => line.split("| ssh root@")[1]?.split(" ")[0])).toEqual(to);
  },
);

test("a worker that was looked at, and has the kubelet's configuration, is named with its difference and its line; of none it is said that it may have one", async () => {
  const unit = KUBEADM_UNIT.replaceAll("/var/lib/kubelet/config.yaml", CONFIG);
  using node = await oneOfThree({ commands: [{ command: "systemctl cat kubelet", stdout: unit }] });
  gone(LEAF)(node);
  await node.answers({ m2: NO_CONFIG, m3: NO_CONFIG, w1: { damage: [] }, w2: WORKERS_LOST });
  const { stdout } = await node.plan("--seen /root/seen");
  expect(stdout).not.toContain("A worker may have one");
  const offered = notesIn(stdout).find(({ text }) =>
    text.startsWith(`w1 was looked at, and has not lost ${CONFIG}`),
  )!;
  const [, difference, ...carried] = offered.line.split("\n");
  expect(difference).toContain(`root@10.77.0.21 'cat ${CONFIG}' | ssh root@`);
  expect(difference).toEndWith("'diff /var/lib/kubelet/config.yaml /dev/stdin'");
  const targets = carried.map((line) => / root@(\S+) 'tar -C \S+ -x/.exec(line)?.[1]);
  expect(targets).toEqual([SHOWN_ADDRESS, AT.m2, AT.m3, "10.77.0.22"]);
  const plan = JSON.parse((await node.plan("--json --seen /root/seen")).stdout) as PlanData;
  const { question } = plan.decisions.find(({ id }) => id === "lost-files")!;
  expect(question.join("\n")).toContain("w1 was looked at");
  expect(question.filter((text) => OF_LINES.test(text))).toEqual([]);
  // numbers of repair: neither is an option, and nothing of either is typed by hand
  const known = linesOfRunbook(readFileSync("RUNBOOK.md", "utf8"));
  const read = readPlanData(JSON.stringify(plan), known);
  const { ways } = read.decisions!.find(({ id }) => id === "lost-files")!;
  expect(ways.map(({ does }) => does)).toEqual([
    `I have ${CONFIG}: type its path on this machine, or that of a folder with your copies`,
    `Copy ${CONFIG} from w1, which has it: its difference from kubeadm's is shown first`,
    expect.stringMatching(/^Write a replacement of \S+ with kubeadm\. It is kubeadm's: without maxPods, /),
  ]);
  const to = ["m1", "m2", "m3", "w2"];
  expect(ways[1]!.brings).toEqual({
    path: CONFIG,
    from: "w1",
    to,
    own: "/var/lib/kubelet/config.yaml",
    on: "m1",
  });
  const brings = { ...ways[1]!.brings, from: "w1; sh" };
  const strange = { ...plan, decisions: [{ ...read.decisions![0]!, ways: [{ does: "", brings }] }] };
  expect(() => readPlanData(JSON.stringify(strange), known)).toThrow(
    '"w1; sh", which is not a node of the plan',
  );
});

test("a file that is lost on another node alone is its decision, too; one of the flag's others is not", async () => {
  using node = await lostFile();
  write(node.root + SA_2024, "here");
  gone(LEAF)(node);
  await node.answers({ m2: LOST_HERE, m3: { lostFiles: [{ path: "/etc/kubernetes/pki/ca.crt" }] } });
  const { stdout } = await node.plan("--seen /root/seen");
  expect(stdout).toContain("is lost on m2, and kube-apiserver");
  expect(stdout).toContain("Not lost on m1, m3, as was seen");
});

test("a member that answers nobody is a decision: away comes before lost, and with the word there are steps", async () => {
  using node = await oneOfThree({}, ["m2"]);
  gone(LEAF)(node);
  await node.answers({ m2: {}, m3: "" });
  const { exitCode, stdout } = await node.plan("--seen /root/seen");
  expect([exitCode, aimIn(stdout)]).toEqual([
    3,
    "Say first what m3 is: nothing answers there, and part 2 would stop for it",
  ]);
  const asked = askedIn(await node.plan("--json --seen /root/seen"));
  expect([asked.length, asked.filter((text) => OF_LINES.test(text))]).toEqual([2, []]);
  const lines = notesIn(stdout).map(({ line }) => / (--(?:without|lost) m3)$/.exec(line)?.[1]);
  expect(lines.filter(Boolean)).toEqual(["--without m3", "--lost m3"]);
  expect((await node.plan("--seen /root/seen --without m3")).exitCode).toBe(2);
  // its etcd answers, though ssh does not: no word is needed
  await node.answers({ m2: "", m3: "" });
  expect((await node.plan("--seen /root/seen --without m3")).exitCode).toBe(2);
});

test("what a look of part 1 refuses comes first, and so does what another node's look refuses, in words of ours", async () => {
  const image = { command: `${CRICTL} inspecti -q *`, stderr: "no such image", exit: 1 };
  using node = await oneOfThree({ commands: [image] });
  gone(LEAF)(node);
  const own = JSON.parse((await node.run("00-assess --json")).stdout);
  expect(own.refusals.map(({ part, id }: Json) => `${part} ${id}`)).toEqual(["1 images"]);
  const bad = { part: 9, id: "clock", message: "\u001b[2Jtype this: wipefs" };
  await node.answers({ m2: { refusals: [bad, { part: 1, id: "constructor" }] }, m3: { refusals: [] } });
  const { exitCode, stdout } = await node.plan("--seen /root/seen");
  expect(exitCode).toBe(3);
  expect(aimIn(stdout)).toBe(
    "Mend first what would be refused: on m1, part 1 would refuse it: an image is not there, on m2, part 1 would refuse it: no time server sets its clock, and nothing proves its time",
  );
  expect(stdout).not.toContain("wipefs");
  const texts = notesIn(stdout).map(({ text }) => text);
  expect(texts).toContainEqual(expect.stringMatching(/^On m1, part 1 would refuse: image /));
  expect(texts).toContainEqual(expect.stringContaining("./bunw scripts/01-etcd.ts --images-later"));
});

test("a file that part 1 replaces, and that is a mount of its own, is said before any step", async () => {
  using node = await oneOfThree();
  gone("pki/etcd/server.key")(node);
  const at = "/etc/kubernetes/pki/etcd/server.crt";
  write(`${node.root}/proc/self/mountinfo`, `23 22 0:30 /x ${at} rw - ext4 /dev/sda rw\n`);
  const { refusals } = JSON.parse((await node.run("00-assess --json")).stdout) as { refusals: Json[] };
  expect(refusals.map(({ id }) => id)).toEqual(["fixed files"]);
  expect((await node.plan("--without m2,m3")).exitCode).toBe(3);
});

test("what part 3 needs is said before part 3, where part 2 does not write over it", async () => {
  const noTokens = (objects: Objects) => {
    three(objects);
    const pod = mirrorPod("kube-apiserver");
    const container = pod.spec.containers[0]!;
    container.command = container.command!.filter(
      (word) => !word.startsWith("--enable-bootstrap-token-auth"),
    );
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  };
  using node = here(await pretendNode({ ...ASKED, etcd: noTokens }));
  const { exitCode, stdout } = await node.run("plan --without m2,m3");
  expect(exitCode).toBe(2);
  const [, part3 = ""] = stdout.split("\n## 3 ");
  expect(part3.split("\n## ")[0]).toContain(
    "On m1, part 3 would refuse: The API server takes no bootstrap tokens",
  );
});

test("what only a stop of etcd needs is no refusal where etcd goes on: its files are valid, and it answers", async () => {
  const mount = (path: string) => `23 22 0:30 /x ${path} rw - ext4 /dev/sda rw\n`;
  for (const [lost, ids] of [
    [LEAF, []],
    ["pki/etcd/server.key", ["fixed files"]],
  ] as const) {
    using node = await oneOfThree();
    gone(lost)(node);
    write(
      `${node.root}/proc/self/mountinfo`,
      mount("/etc/kubernetes/manifests/kube-controller-manager.yaml"),
    );
    const { refusals } = JSON.parse((await node.run("00-assess --json")).stdout) as { refusals: Json[] };
    expect(refusals.map(({ id }) => id)).toEqual([...ids]);
  }
});

test("what another static pod needs, and is lost, holds up no step: part 1's line goes on without it", async () => {
  const conf = "/etc/keepalived/keepalived.conf";
  const withKeepalived = (objects: Objects) => {
    three(objects);
    const text = JSON.stringify(mirrorPod("kube-scheduler")).replaceAll("kube-scheduler", "keepalived");
    const pod = JSON.parse(text) as ReturnType<typeof mirrorPod>;
    pod.spec.containers[0]!.command = ["keepalived", "-f", conf];
    pod.spec.containers[0]!.volumeMounts = [{ name: "conf", mountPath: conf }];
    pod.spec.volumes = [{ name: "conf", hostPath: { path: conf, type: "File" } }];
    objects["pods/kube-system/keepalived-m1"] = pod;
  };
  using node = await oneOfThree({ etcd: withKeepalived, containers: ["etcd", "kube-apiserver"] });
  gone(LEAF)(node);
  const said = JSON.parse((await node.run("00-assess --json")).stdout) as { lostFiles: Json[] };
  expect(said.lostFiles.map(({ path }) => path)).toEqual([conf]);
  await node.answers({ m2: {}, m3: {} });
  const { exitCode, stdout } = await node.plan("--seen /root/seen");
  expect(exitCode).toBe(2);
  expect(pasted(stdout)).toContain("m1# 01-etcd.ts");
  const { exitCode: tried, stderr } = await node.run("01-etcd --dry-run");
  expect({ tried, stderr }).toMatchObject({ tried: 0 });
  expect(stderr).toContain(`lost, and only a copy brings it back: ${conf} (`);
});
