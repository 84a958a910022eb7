/** Wrong hands: Ctrl-C, kill, and an ssh that drops, in the middle of each script that changes a node. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { waitFor } from "../../shared/wait-for.ts";
import { afterPart2, MANAGER, RESTARTS } from "../pretend/after-part2.ts";
import { write } from "../pretend/cluster.ts";
import { bootstrap, join, kubeletFiles, LEASE, newCa, serve, writeToken } from "../pretend/joining.ts";
import { pretendNode, staticUid } from "../pretend/node.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { LEASES, lease, serveRunning } from "../pretend/running.ts";
import { expectStop, interrupted } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** [signal, what the error calls it] */
const SIGNALS: [NodeJS.Signals, RegExp][] = [
  ["SIGHUP", /^Stopped by SIGHUP: the connection is gone$/],
  ["SIGINT", /^Stopped by Ctrl-C \(SIGINT\)$/],
  ["SIGTERM", /^Stopped by SIGTERM$/],
  ["SIGQUIT", /^Stopped by Ctrl-\\ \(SIGQUIT\)$/],
];
const AGAIN = /^run the same line again: what was written is whole, and finished steps are skipped$/;
const BACK = /^run the same line again: the old files are back$/;
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const STOPPED = "\nnote: this node's kubelet is stopped, its containers run on. ";

/** A program that waits in its middle for the file `go`, as a slow one does. */
const slow = (command: string, does: string): FakeCommand => ({
  command,
  does: `while test ! -e "$FAKE/go"; do :; done; ${does}`,
});
const letGo = (node: Awaited<ReturnType<typeof pretendNode>>) => write(`${node.env.FAKE}/go`, "");

const turned = (node: Awaited<ReturnType<typeof pretendNode>>) =>
  node.calls().filter((call) => /start|stop/.test(call));

const bootstraps = (node: Awaited<ReturnType<typeof pretendNode>>) =>
  node.exists("/etc/kubernetes/bootstrap-kubelet.conf") &&
  !node.exists("/etc/kubernetes/kubelet.conf") &&
  turned(node).at(-1) === "systemctl start kubelet";

/** What the kubelet does once join has started it: before, join would take its certificate for an old one. */
async function kubeletJoins(
  node: Awaited<ReturnType<typeof pretendNode>>,
  api: Awaited<ReturnType<typeof serve>>,
) {
  await waitFor("the kubelet to start with the new trust", () => bootstraps(node), {
    seconds: 250,
    hint: "see what join printed",
  });
  await bootstrap(node, newCa, () => bootstraps(node));
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 60_000).toISOString();
}

async function joins(node: Awaited<ReturnType<typeof pretendNode>>, api: Awaited<ReturnType<typeof serve>>) {
  const running = node.run(join(), WAITS);
  await kubeletJoins(node, api);
  return await running;
}

test.each(SIGNALS)(
  "%s while join waits for the certificate: the kubelet goes on, and the next run waits for it",
  async (signal, error) => {
    using node = await pretendNode({ kind: "worker" });
    writeToken(node.root);
    using api = await serve(newCa);
    const stopped = await interrupted(node, join(), "== 3.5 ", signal);
    expectStop(stopped, error, AGAIN, 130);
    expect(stopped.stderr).toContain(
      "\nnote: this worker's kubelet has the new trust and continues by itself: ",
    );
    expect(existsSync(`${node.root}/run/kube-pki-repair.lock`)).toBe(false);
    expect(await joins(node, api)).toMatchObject({ exitCode: 0 });
    expect(node.read("/etc/kubernetes/pki/ca.crt")).toBe(newCa.cert);
    expect(turned(node)).toEqual(["systemctl stop kubelet", "systemctl start kubelet"]);
  },
);

test.each(SIGNALS)(
  "%s while join stops the kubelet: nothing is changed, and the kubelet runs again",
  async (signal, error) => {
    using node = await pretendNode({
      kind: "worker",
      commands: [slow("systemctl stop kubelet", 'echo > "$FAKE/stopped"')],
    });
    writeToken(node.root);
    using api = await serve(newCa);
    const before = kubeletFiles(node);
    const heard = () => letGo(node);
    expectStop(
      await interrupted(node, join(), node.called("systemctl stop kubelet"), signal, { heard }),
      error,
      BACK,
      130,
    );
    expect(kubeletFiles(node)).toEqual(before);
    expect(node.calls().at(-1)).toBe("systemctl start kubelet");
    expect(await joins(node, api)).toMatchObject({ exitCode: 0 });
  },
);

test("SIGHUP while join starts the kubelet: too late to go back, it ends there, and the next run waits for the kubelet", async () => {
  using node = await pretendNode({
    kind: "worker",
    commands: [slow("systemctl start kubelet", 'rm -f "$FAKE/stopped"')],
  });
  writeToken(node.root);
  using api = await serve(newCa);
  const heard = () => letGo(node);
  const stopped = await interrupted(node, join(), node.called("systemctl start kubelet"), "SIGHUP", {
    heard,
  });
  expectStop(stopped, /^Stopped by SIGHUP/, AGAIN, 130);
  expect(stopped.stderr).toContain(
    "\nnote: this worker's kubelet has the new trust and continues by itself: ",
  );
  expect(stopped.stderr).not.toContain("== 3.5 ");
  expect(await joins(node, api)).toMatchObject({ exitCode: 0 });
});

test.each(["SIGINT", "SIGHUP"] as const)(
  "%s does not disturb the roll back of join, also when it comes twice",
  async (signal) => {
    using node = await pretendNode({ kind: "worker" });
    writeToken(node.root);
    using _api = await serve(newCa);
    const before = kubeletFiles(node);
    const child = node.start(join());
    let stderr = "";
    for await (const piece of child.stderr) {
      stderr += Buffer.from(piece).toString();
      if (stderr.includes("== Roll back: ")) child.kill(signal);
    }
    expectStop(
      { exitCode: await child.exited, stderr, stdout: "" },
      /^Waited 120 s /,
      /\. The old files are back\. /,
    );
    expect(kubeletFiles(node)).toEqual(before);
  },
);

test("join that was killed, and fails when it is run again, rolls back to the files from before the first run", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using api = await serve(newCa);
  const before = kubeletFiles(node);
  await interrupted(node, join(), "== 3.5 ", "SIGKILL");
  expect(kubeletFiles(node)).not.toEqual(before);
  const { exitCode, stderr } = await node.run(join());
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("a join was cut off here"),
  });
  expect(kubeletFiles(node)).toEqual(before);
  expect(await joins(node, api)).toMatchObject({ exitCode: 0 });
  expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
});

test("join that was killed when the kubelet had its certificate already: run again, it waits for the Lease, and clears up", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using api = await serve(newCa);
  await interrupted(node, join(), "== 3.5 ", "SIGKILL");
  await bootstrap(node);
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 60_000).toISOString();
  expect(await node.run(join(), WAITS)).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("w1: renewed its Lease with the new certificate"),
  });
  expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
  expect(node.fingerprint().filter((line) => /join-unfinished/.test(line))).toEqual([]);
});

test("join whose output nobody reads any more, as over an ssh without a terminal that drops, goes on to its end", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using api = await serve(newCa);
  const child = node.start(join(), WAITS);
  await child.stderr.cancel();
  await child.stdout.cancel();
  await kubeletJoins(node, api);
  expect(await child.exited).toBe(0);
  expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
});

test.each(SIGNALS)(
  "%s while 01-etcd stops the kubelet: it says that the kubelet is stopped, and the next run continues",
  async (signal, error) => {
    using node = await pretendNode({ commands: [slow("systemctl stop kubelet", 'echo > "$FAKE/stopped"')] });
    const before = node.fingerprint();
    const stopped = await interrupted(
      node,
      "01-etcd --new-cas",
      node.called("systemctl stop kubelet"),
      signal,
    );
    letGo(node);
    expectStop(stopped, error, AGAIN, 130);
    expect(stopped.stderr).toContain(STOPPED);
    expect(node.fingerprint()).toEqual(before);
    expect((await node.run("01-etcd --new-cas")).stderr).toContain("== 1.7 ");
  },
);

/** Names below /root: `kube-pki-repair-TIME/etcd`, … */
const rescued = ({ root }: { root: string }) =>
  readdirSync(`${root}/root`, { recursive: true, encoding: "utf8" }).map((name) =>
    name.replace(/-\d+T\d+/, "-TIME"),
  );

test.each(SIGNALS)(
  "%s while 01-etcd copies a gigabyte: it ends at once, nothing of the copy is left, and the next run continues",
  async (signal, error) => {
    using node = await pretendNode();
    const large = `${node.root}/var/lib/etcd/large`;
    write(large, "");
    truncateSync(large, 2 ** 30);
    mkdirSync(`${node.root}/root`, { recursive: true });
    const isCopying = () => rescued(node).includes("kube-pki-repair-TIME/etcd.kube-pki-repair.partial/large");
    // without a pause: the copy is memory's, and may take less than one
    const begun = async () => {
      while (!isCopying()) await new Promise(setImmediate);
    };
    const stopped = await interrupted(node, "01-etcd --new-cas", begun(), signal);
    expectStop(stopped, error, AGAIN, 130);
    expect(stopped.stderr).toContain(STOPPED);
    expect(rescued(node).filter((name) => /\.partial|TIME\/etcd/.test(name))).toEqual([]);
    rmSync(large);
    expect((await node.run("01-etcd --new-cas")).stderr).toContain("== 1.7 ");
    expect(rescued(node)).toContain("kube-pki-repair-TIME/etcd/member/wal");
  },
);

test.each(SIGNALS)(
  "%s while 01-etcd waits for etcd: every file is whole, and the next run keeps them all",
  async (signal, error) => {
    using node = await pretendNode();
    const stopped = await interrupted(node, "01-etcd --new-cas", "== 1.7 ", signal);
    expectStop(stopped, error, AGAIN, 130);
    expect(stopped.stderr).not.toContain(STOPPED);
    const files = () => node.fingerprint().filter((line) => /^(etc|var)\//.test(line));
    const first = files();
    expect(first.filter((line) => line.includes(".partial"))).toEqual([]);
    const again = await node.run("01-etcd --new-cas");
    expect(again.stderr).toContain("== 1.7 ");
    expect(files()).toEqual(first);
  },
);

test.each(SIGNALS)("%s while 02-control-plane waits for etcd: nothing was changed", async (signal, error) => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const before = node.fingerprint();
  expectStop(await interrupted(node, "02-control-plane", "== 2.1 ", signal), error, AGAIN, 130);
  expect(node.fingerprint()).toEqual(before);
});

test.each(SIGNALS)(
  "%s while close waits for nodes: controller-manager and token stay as they are",
  async (signal, error) => {
    using node = await afterPart2();
    using api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
    const before = node.fingerprint();
    expectStop(await interrupted(node, "03-workers close", "== 3.6 ", signal), error, AGAIN, 130);
    expect(node.fingerprint()).toEqual(before);
    expect(api.changes()).toEqual([]);
  },
);

test.each(SIGNALS)(
  "%s while close exchanges the controller-manager: it says what is away, and the next run ends it",
  async (signal, error) => {
    using node = await afterPart2({ commands: RESTARTS });
    using _api = serveRunning(node);
    const pod = `${node.root}/var/lib/kubelet/pods/${staticUid("kube-controller-manager")}`;
    mkdirSync(pod, { recursive: true });
    const stopped = await interrupted(node, "03-workers close", `removed ${MANAGER}`, signal);
    expectStop(stopped, error, AGAIN, 130);
    expect(stopped.stderr).toContain(
      `\nnote: ${MANAGER} is moved aside: its new content waits in /etc/kubernetes/manifests/.kube-controller-manager.yaml: `,
    );
    rmSync(pod, { recursive: true });
    expect(await node.run("03-workers close", WAITS)).toMatchObject({ exitCode: 0 });
    expect(node.exists(MANAGER)).toBe(true);
    expect(node.exists(MANAGER.replace("/kube-c", "/.kube-c"))).toBe(false);
  },
);

test.each(SIGNALS)(
  "%s while 04-sa-tokens waits for the CA in a namespace: it ends, with nothing on this node changed",
  async (signal, error) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    using api = serveRunning(node, {
      objects: { "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt": { data: { "ca.crt": newCa.cert } } },
    });
    const before = node.fingerprint();
    expectStop(await interrupted(node, "04-sa-tokens", "== 4.2 ", signal), error, AGAIN, 130);
    expect(node.fingerprint()).toEqual(before);
    expect(api.changes().filter((change) => !change.startsWith("POST /apis/authentication"))).toEqual([]);
  },
);

test.each(SIGNALS)(
  "%s while 00-salvage searches: it ends in order, and says that the search is not at its end",
  async (signal) => {
    using node = await pretendNode({ commands: [slow("findmnt *", "exit 1")] });
    const before = node.fingerprint();
    const asked = node.called("findmnt");
    const answered = { says: "\nstopping: ", act: () => letGo(node) };
    const { exitCode, stderr } = await interrupted(node, "00-salvage", asked, signal, { answered });
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 130,
      stderr: expect.stringContaining("\nstopped: the search is not at its end"),
    });
    expect(node.fingerprint()).toEqual(before);
  },
);
