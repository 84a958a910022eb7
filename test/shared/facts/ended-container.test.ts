/** Which end of a container ends a wait for it: a cause that stays, never one that passes. */
import { expect, test } from "bun:test";
import { utimesSync } from "node:fs";
import { containerEnd } from "../../../shared/facts/ended-container.ts";
import { Fail } from "../../../shared/fail.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { manifest } from "../../pretend/cluster.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { CRICTL, crictlPs, staticUid } from "../../pretend/node.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

type Server = Parameters<typeof containerEnd>[1];

const klog = (err: string) => `E1130 04:50:01.123456       1 run.go:72] "command failed" err="${err}"`;
const KEY = "/etc/kubernetes/pki/sa-2024.pub";
const NO_KEY = `open ${KEY}: no such file or directory`;
const REFUSED = 'Post "https://127.0.0.1:2379": dial tcp 127.0.0.1:2379: connect: connection refused';

interface Shown {
  /** Of its newest container. */
  log: string;
  exitCode?: number;
  id?: string;
  running?: boolean;
}

/** What crictl shows of this server, one container after the other at each question. */
function shown(name: Server, all: readonly Shown[]) {
  return programsHere([
    ...all.map(({ id = "c1", running = false }) => ({
      command: `${CRICTL} ps -a -o json`,
      stdout: crictlPs([], [{ name, id, podUid: staticUid(name), running }]),
    })),
    ...all.flatMap(({ log, exitCode = 1, id = "c1" }) => [
      { command: `${CRICTL} inspect -o json ${id}`, stdout: JSON.stringify({ status: { exitCode } }) },
      { command: `${CRICTL} logs --tail 50 ${id}`, stderr: log },
    ]),
  ]);
}

/** A node whose API server's manifest names KEY; its manifest is older than its containers. */
function place(name: Server = "kube-apiserver") {
  const box = sandbox();
  const pod = manifest(name);
  if (name === "kube-apiserver") pod.spec.containers[0]!.command!.push(`--service-account-key-file=${KEY}`);
  const path = `/etc/kubernetes/manifests/${name}.yaml`;
  writeFile(path, manifestText(pod));
  const hour = Date.now() / 1000 - 3600;
  utimesSync(box.dir + path, hour, hour);
  return box;
}

const ended = (end: Awaited<ReturnType<ReturnType<typeof containerEnd>>>) =>
  end instanceof Fail ? `${end.message}\n${end.hint}` : end;

const WORDS = "its container has exited: ";

// biome-ignore format: a table
test.each<[string, Server, Shown, string | RegExp | undefined]>([
  ["a lost file that a flag names", "kube-apiserver", { log: `I1130 something\n${klog(NO_KEY)}` }, /^kube-apiserver does not start: its container has exited: E1130.*\nbring \/etc\/kubernetes\/pki\/sa-2024\.pub back \(--service-account-key-file names it\).*02-control-plane\.ts --start-without service-account-key-file \(/],
  ["klog.Fatal, with the stacks of all goroutines behind it", "kube-apiserver", { log: `F1130 04:50:01.1 1 server.go:1] ${NO_KEY}\ngoroutine 1 [running]:\nmain.main()`, exitCode: 255 }, /does not start/],
  ["etcd's own file, in its log of JSON", "etcd", { log: '{"level":"fatal","msg":"discovery failed","error":"open /etc/kubernetes/pki/etcd/server.key: no such file or directory"}' }, /^etcd does not start[\s\S]*\nbring \/etc\/kubernetes\/pki\/etcd\/server.key back/],
  ["the scheduler's kubeconfig", "kube-scheduler", { log: klog("stat /etc/kubernetes/scheduler.conf: no such file or directory") }, /^kube-scheduler does not start/],
  ["a flag that it does not know", "kube-controller-manager", { log: "Usage:\n  kube-controller-manager [flags]\nError: unknown flag: --bad" }, /^kube-controller-manager does not start[\s\S]*\ncorrect this flag in \/etc\/kubernetes\/manifests\/kube-controller-manager\.yaml, then: /],
  ["etcd prints its usage behind the cause", "etcd", { log: "flag provided but not defined: -bad\nUsage:\n\n  etcd [flags]", exitCode: 2 }, /^etcd does not start/],
  // and what passes
  ["etcd is not there yet", "kube-apiserver", { log: klog(REFUSED) }, WORDS + klog(REFUSED)],
  ["the old one still has the port", "kube-apiserver", { log: klog("listen tcp 0.0.0.0:6443: bind: address already in use") }, /^its container has exited/],
  ["a file that is here meanwhile", "etcd", { log: "open /etc/hosts: no such file or directory" }, /^its container has exited/],
  ["this run has stopped it, and its log has an error of before", "kube-apiserver", { log: klog(NO_KEY), exitCode: 137 }, undefined],
  ["it has ended well", "kube-apiserver", { log: klog(NO_KEY), exitCode: 0 }, undefined],
  ["it runs", "kube-apiserver", { log: klog(NO_KEY), running: true }, undefined],
  ["nothing is in its log", "kube-apiserver", { log: "" }, undefined],
])("%s", async (_, name, one, expected) => {
  using _box = place(name);
  using _programs = shown(name, [one]);
  const end = ended(await containerEnd({ node: NODE }, name, async () => true)());
  if (expected instanceof RegExp) expect(end).toMatch(expected);
  else expect(end).toBe(expected);
});

test("a container that is older than its manifest shows nothing of it", async () => {
  using _box = place();
  writeFile("/etc/kubernetes/manifests/kube-apiserver.yaml", manifestText(manifest("kube-apiserver")));
  const later = Date.now() / 1000 + 60;
  utimesSync(`${_box.dir}/etc/kubernetes/manifests/kube-apiserver.yaml`, later, later);
  using _programs = shown("kube-apiserver", [{ log: klog("unknown flag: --bad") }]);
  expect(await containerEnd({ node: NODE }, "kube-apiserver")()).toBeUndefined();
});

const BROKEN = "tls: private key does not match public key";

// biome-ignore format: a table
test.each<[string, string[], boolean, boolean]>([
  ["the same error three times while what it needs answers", [klog(BROKEN), klog(BROKEN).replace("04:50", "04:51"), klog(BROKEN)], true, true],
  ["two times", [klog(BROKEN), klog(BROKEN)], true, false],
  ["another one each time", [klog(BROKEN), klog("a"), klog("b")], true, false],
  ["while what it needs is away", [klog(BROKEN), klog(BROKEN), klog(BROKEN)], false, false],
  ["etcd is away, and says so ten times", Array(10).fill(klog(REFUSED)), true, false],
])("%s", async (_, logs, answers, isFinal) => {
  using _box = place();
  using _programs = shown("kube-apiserver", logs.map((log, i) => ({ log, id: `c${i}` })));
  const look = containerEnd({ node: NODE }, "kube-apiserver", async () => answers);
  let end: Awaited<ReturnType<typeof look>>;
  for (const __ of logs) end = await look();
  expect(ended(end)).toMatch(isFinal ? /^kube-apiserver does not start, and exits with the same error/ : /^its container/);
});

test("one container that has ended is one end, however often it is looked at", async () => {
  using _box = place();
  using _programs = shown("kube-apiserver", [{ log: klog(BROKEN) }]);
  const look = containerEnd({ node: NODE }, "kube-apiserver", async () => true);
  for (let i = 0; i < 5; i++) expect(await look()).toBe(WORDS + klog(BROKEN));
});

test("its log is text that no terminal obeys, and decides nothing but the wait", async () => {
  using _box = place();
  using _programs = shown("kube-apiserver", [{ log: "Error: \u001b[2Jbad\nerror: forged" }]);
  expect(await containerEnd({ node: NODE }, "kube-apiserver")()).toBe(`${WORDS}error: forged`);
  using _others = shown("kube-apiserver", [{ log: "Error: \u001b[2Jbad" }]);
  expect(await containerEnd({ node: NODE }, "kube-apiserver")()).toBe(`${WORDS}Error: \\u001b[2Jbad`);
});

test("a wait ends with it, long before its time is over; a runtime that is silent ends none", async () => {
  using _box = place();
  using fake = shown("kube-apiserver", [{ log: "", running: true }, { log: klog(NO_KEY) }]);
  const wait = { seconds: 180, hint: "x", ended: containerEnd({ node: NODE }, "kube-apiserver") };
  using _patience = programsHere([], { KUBE_PKI_REPAIR_PATIENCE: "0.05", ...fake.env });
  await expect(waitFor("readyz", () => false, wait)).rejects.toThrow(NO_KEY);
  using _silent = programsHere([{ command: `${CRICTL} ps -a -o json`, exit: 1 }], {
    KUBE_PKI_REPAIR_PATIENCE: "0.0005",
  });
  await expect(waitFor("readyz", () => false, wait)).rejects.toThrow(
    "Waited 180 s for readyz: no answer yet",
  );
});
