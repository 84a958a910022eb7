/**
 * How often a run asks systemd and the runtime the same, and reads the same kubeconfig: once, where it only looks. What
 * is asked again has a reason: a run that starts a kubelet asks before each start, as a start may have changed it.
 */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { livingNode, renewing } from "../pretend/living.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const PROCESS = "systemctl show -p MainPID --value kubelet";
const UNIT = "systemctl cat kubelet";
const CONTAINERS =
  "crictl --runtime-endpoint unix:///run/containerd/containerd.sock --timeout 60s ps -a -o json";
const CLOCK = "timedatectl show --property=NTPSynchronized --value";
const [CONF, VOLUMES, PROCESSES] = ["/etc/kubernetes/scheduler.conf", "/var/lib/kubelet/pods", "/proc"];

/** What is asked more than once, and how often; a kubeconfig, the volumes of pods, and all processes, are read so often. */
async function asked(node: PretendNode, line: string) {
  const before = node.calls().length;
  let [reads, lists, scans] = [0, 0, 0];
  const [read, list] = [fs.readFileSync, fs.readdirSync];
  const [ofFiles, ofFolders] = [spyOn(fs, "readFileSync"), spyOn(fs, "readdirSync")];
  ofFiles.mockImplementation(((path: string, ...more: []) => {
    if (path === node.root + CONF) reads++;
    return read(path, ...more);
  }) as typeof read);
  ofFolders.mockImplementation(((path: string, ...more: []) => {
    if (path === node.root + VOLUMES) lists++;
    if (path === node.root + PROCESSES) scans++;
    return list(path, ...more);
  }) as typeof list);
  try {
    await node.run(line);
  } finally {
    for (const spy of [ofFiles, ofFolders]) spy.mockRestore();
  }
  const calls = [...Map.groupBy(node.calls().slice(before), (call) => call)];
  const again = calls.flatMap(([call, { length }]) => (length > 1 ? [[call, length] as const] : []));
  return { again: Object.fromEntries(again), reads, lists, scans };
}

test.each<[string, Awaited<ReturnType<typeof asked>>]>([
  // a kubelet may restart while a renewed CA's readers are looked for
  ["00-assess", { again: { [PROCESS]: 2 }, reads: 5, lists: 2, scans: 3 }],
  ["05-verify", { again: { [PROCESS]: 2, [CONTAINERS]: 2 }, reads: 7, lists: 1, scans: 2 }],
  ["03-workers open", { again: {}, reads: 1, lists: 1, scans: 0 }],
  ["04-sa-tokens", { again: {}, reads: 2, lists: 1, scans: 0 }],
])(
  "on a node that is well %s asks systemd and the runtime once, but where there is a reason",
  async (line, expected) => {
    using node = here(await livingNode());
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    using _api = serveRunning(node, { on: renewing });
    expect(await asked(node, line)).toEqual(expected);
  },
);

test("where all is lost 00-assess asks once, and what part 1 asks before its first stop a second time", async () => {
  using node = here(await pretendNode());
  const again = { [PROCESS]: 3, [UNIT]: 2, [CLOCK]: 2 };
  expect(await asked(node, "00-assess")).toEqual({ again, reads: 5, lists: 4, scans: 5 });
});
