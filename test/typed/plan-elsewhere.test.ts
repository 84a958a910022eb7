/**
 * A plan for new keys is made where the lost ones may be, and nowhere else, before that node was looked at.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { healthyCp, led, type Objects, write } from "../pretend/cluster.ts";
import { serveDeaf } from "../pretend/etcd.ts";
import { lookAt, type PretendNode } from "../pretend/in-process.ts";
import { bigInt, pretendProcess } from "../pretend/memory.ts";
import { MEMBER, SHOWN_ADDRESS } from "../pretend/node.ts";
import { ASKED, AT, MEMBERS, three } from "../pretend/plan.ts";
import { refusedHere, typeHere } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();

const ledBy = (host: string) => (objects: Objects) => {
  three(objects);
  led(host)(objects);
};
const memory = ({ root }: PretendNode) => {
  const holds = ["ca.key", "sa.key"].map((file) =>
    bigInt(createPrivateKey(readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8"))),
  );
  pretendProcess(root, { pid: 31, comm: "kube-controller", holds });
};
const aim = (stdout: string) => /^\*\*(.+)\*\*$/m.exec(stdout)?.[1];

test("where another node's controller-manager led last, the first screen has one way: it stops the loss, and looks at all nodes; it has no line for new keys", async () => {
  await lookAt({ etcd: ledBy("m2"), members: MEMBERS }, async (node) => {
    const before = node.fingerprint();
    const { exitCode, stdout } = await typeHere("plan");
    expect(node.fingerprint()).toEqual(before);
    expect([exitCode, aim(stdout)]).toEqual([
      3,
      "Look at m2 first: the controller-manager there led last, and only its process may hold ca.key in memory",
    ]);
    const steps = [...stdout.matchAll(/^### \[ \] 0\w: (.+)$/gm)].map(([, title]) => title);
    expect(steps).toEqual([
      "Stop the kubelet, and pause the controller-manager, on m1, m2, m3",
      "Bring the kit to the other nodes, to m2, m3, w1, w2 (side by side)",
    ]);
    expect(stdout).not.toMatch(/bring them here|on m2:\n\.\/bunw scripts\/plan\.ts/);
    expect(stdout).toContain("# on m1:\n./bunw scripts/plan.ts --lost-on m2\n");
    expect(stdout).toContain("Looked at: m1 (here). Not looked at: m2, m3, w1, w2.");
    expect(stdout).not.toMatch(/--new-cas|nobody has any more/);
  });
});

const HERE: {
  what: string;
  host: string;
  words: string;
  line: string;
  change?: (node: PretendNode) => unknown;
}[] = [
  { what: "m2 was looked at", host: "m2", words: " --lost-on m2", line: "01-etcd.ts --new-cas --lost-on m2" },
  { what: "m2 is lost for good", host: "m2", words: " --lost m2", line: "01-etcd.ts --new-cas --lost-on m2" },
  { what: "this node's led last", host: "m1", words: "", line: "01-etcd.ts --new-cas" },
  { what: "ca.key is found here", host: "m2", words: "", line: "00-salvage.ts", change: memory },
];

test.each(HERE)("the plan is made here: $what", async ({ host, words, line, change }) => {
  await lookAt({ etcd: ledBy(host), members: MEMBERS, change }, async () => {
    const { exitCode, stdout } = await typeHere(`plan${words}`);
    expect([exitCode, aim(stdout)]).toEqual([2, expect.not.stringContaining("Make this plan on")]);
    expect(stdout).toContain(`# on m1:\n./bunw scripts/${line}\n`);
  });
});

test("00-assess --deep sends to the node whose controller-manager led last, once the loss is stopped, and puts nothing back before", async () => {
  await lookAt({ etcd: ledBy("m2"), members: MEMBERS }, async () => {
    const { stdout } = await typeHere("00-assess --deep --no-disk");
    // no order beside its opposite: the keys are not brought here by anybody
    expect(/^verdict: (.+)/m.exec(stdout)?.[1]).toStartWith(
      "the lost keys may still be had (maybe on m2, m3): look there before new ones are made",
    );
    const next = stdout.split("\n\n").find((block) => block.startsWith("next\n"))!;
    expect(next.match(/^ {2}.*$/gm)).toEqual([
      "  systemctl stop kubelet",
      expect.stringMatching(
        /^ {2}on m2: \.\/bunw scripts\/plan\.ts +# its controller-manager led last: only that process may hold ca\.key$/,
      ),
      expect.stringMatching(
        /^ {2}\.\/bunw scripts\/plan\.ts --lost-on m2 +# here, if ca\.key is lost there, too/,
      ),
    ]);
  });
});

test("00-assess --deep sends to no plan of the last leader where ca.key is found here: its process has no other key that is lost", async () => {
  await lookAt({ etcd: ledBy("m2"), members: MEMBERS, change: memory }, async () => {
    const { stdout } = await typeHere("00-assess --deep --no-disk");
    const next = stdout.split("\n\n").find((block) => block.startsWith("next\n"))!;
    expect(next).toContain("./bunw scripts/00-salvage.ts memory");
    expect(next).not.toMatch(/on m2: |--lost-on/);
  });
});

test("who is away is not lost: the plan waits for its word", async () => {
  await lookAt({ etcd: ledBy("m2"), members: MEMBERS }, async () => {
    const { exitCode, stdout } = await typeHere("plan --without m2");
    expect([exitCode, aim(stdout)]).toEqual([3, expect.stringContaining("Look at m2 first")]);
    expect(stdout).toContain("# on m1:\n./bunw scripts/plan.ts --lost-on m2\n");
    expect(stdout).not.toContain(AT.m2);
  });
});

test("beside an etcd that runs without its files the plan waits for a look: part 1 would refuse its line", async () => {
  await lookAt(ASKED, async () => {
    using _m3 = serveDeaf(AT.m3);
    const { exitCode, stdout } = await typeHere("plan");
    expect([exitCode, aim(stdout)]).toEqual([
      3,
      "Look at m3 first: etcd runs there, or seems to, so ca.key, front-proxy-ca.key, etcd/ca.key, sa.key may still be there",
    ]);
    expect(stdout).not.toContain("--new-cas");
    expect((await typeHere("plan --lost-on m3")).stdout).toContain("01-etcd.ts --new-cas --lost-on m3\n");
  });
});

test("a single control plane node under another name makes its plan", async () => {
  await lookAt({ etcd: led("old-name"), members: [MEMBER] }, async () => {
    expect((await typeHere("plan")).exitCode).toBe(2);
  });
});

test("a plan on a worker is refused, with the place where the control plane nodes are", async () => {
  await lookAt({ kind: "worker" }, async (node) => {
    const hint = new RegExp(
      `^make it on a control plane node: this kubelet asks https://${SHOWN_ADDRESS}:6443, one of them or their balancer`,
    );
    await refusedHere(node, "plan", /^"w1" is no control plane node: /, hint, 3);
    const conf = "/etc/kubernetes/kubelet.conf";
    write(node.root + conf, node.read(conf).replace(/server: .*/, "server: https://localhost:6443"));
    const own =
      /this kubelet asks https:\/\/localhost:6443, its own balancer, whose configuration names them: grep /;
    await refusedHere(node, "plan", /^"w1" is no control plane node: /, own, 3);
  });
});
