/**
 * A `kubeadm join --control-plane` was cut off (1.29 and later). Before the promotion, its member of etcd is
 * a learner: it has no vote. Before its etcd ran, the member has no name: no node can be named, only the
 * member's id.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import {
  type EtcdState,
  sameEtcd,
  serveEtcd,
  serveOtherMember,
  TAKEN_OUT,
  THIRD,
  THIRD_AT,
} from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);
const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const LEARNER = { ...TAKEN_OUT, isLearner: true };
const NAMELESS = { ...TAKEN_OUT, name: "" };
const [ID, AT] = [NAMELESS.id, "127.77.0.12"];
const OUT = `./bunw scripts/02-control-plane.ts --lost ${ID}`;

type Member = typeof NAMELESS & { isLearner?: boolean };

/** Part 1 on a wiped control plane node, whose etcd answers then; and so does m3's, if it is `alive`. */
async function part1(members: Member[], { alive, ...more }: Partial<EtcdState> & { alive?: boolean } = {}) {
  using node = await pretendNode({ members });
  const running = node.run("01-etcd --new-cas", PATIENCE);
  await node.called("systemctl restart kubelet");
  const state = { ...sameEtcd(node.stored), members, ...more };
  using _third = alive ? await serveOtherMember(node.root, state, THIRD_AT) : undefined;
  using _etcd = serveEtcd(node.root, state);
  return await running;
}

/** A well control plane node with these members of etcd, and the API of part 2. */
async function repaired(members: Member[]) {
  const node = await pretendNode({ kind: "healthy control plane node", members });
  const state = { ...sameEtcd(node.stored), members: [...members] };
  const served = [serveEtcd(node.root, state), servePart2(node)];
  if (members.includes(THIRD)) served.push(await serveOtherMember(node.root, state, THIRD_AT));
  return {
    ...{ node, state },
    [Symbol.dispose]() {
      for (const one of [...served, node]) one[Symbol.dispose]();
    },
  };
}

test("01-etcd: the only voter answers alone, and is proved", async () => {
  const { exitCode, stderr } = await part1([MEMBER, LEARNER]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).not.toContain("It answers when");
  expect(stderr).toContain("  same cluster, revision");
});

test("01-etcd: a learner is none of the members that have to run, and none of those that do", async () => {
  const { stderr } = await part1([MEMBER, THIRD, LEARNER]);
  expect(stderr).toContain("  etcd runs here. It answers when 2 of its 2 voting members run; now 1\n");
});

test("01-etcd on the learner: says what ends its join, as etcd answers no client there", async () => {
  const { exitCode, stderr } = await part1([{ ...MEMBER, isLearner: true }, THIRD], {
    alive: true,
    isLearner: true,
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toMatch(
    /This node's etcd has no vote, and answers no client.*\nhint: .*etcdctl --cacert \S+ .* member promote \w+; then/,
  );
});

test("02-control-plane --lost the learner: etcd answers without it", async () => {
  using scene = await repaired([MEMBER, LEARNER]);
  const { stderr, exitCode } = await scene.node.run("02-control-plane --lost w2", PATIENCE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  removed w2 from etcd's members\n  then etcd has the member m1, and answers while it runs\n",
  );
});

test("02-control-plane --dry-run --lost one of two voters: a learner does not take its place", async () => {
  using scene = await repaired([MEMBER, { ...THIRD }, LEARNER]);
  const { stderr, exitCode } = await scene.node.run("02-control-plane --dry-run --lost m3", PATIENCE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain(
    "etcd cannot answer without m3: 2 of its 2 voting members have to run, and 1 would be left\n",
  );
});

test("01-etcd: etcd never answers where one that never started has the vote that lacks, and the last line names no empty name", async () => {
  const { exitCode, stderr } = await part1([MEMBER, NAMELESS]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(`  ${ID}, ${AT}: no etcd answers\n`);
  expect(stderr).toContain(
    `error: etcd runs here, and cannot answer: 2 of its 2 members have to run, and ${ID} at ${AT} never started\n`,
  );
  expect(stderr).not.toMatch(/on ,|on ""|on {2}/);
});

test("01-etcd beside a learner that never started: part 2 takes it out, nobody is sent to it", async () => {
  const { exitCode, stderr } = await part1([MEMBER, { ...NAMELESS, isLearner: true }]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    `  ${ID} never started: a join was cut off. Take it out, and that machine can join again: ${OUT}\n`,
  );
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
});

test("02-control-plane: the hint about one that never started can be typed, takes it out, and is over then", async () => {
  using scene = await repaired([MEMBER, NAMELESS, THIRD]);
  const first = await scene.node.run("02-control-plane", PATIENCE);
  expect(first.exitCode).toBe(3);
  expect(first.stderr).toContain(
    `hint: ${ID} never started: a join was cut off. Take it out, and that machine can join again: ${OUT}\n`,
  );
  const second = await scene.node.run(`02-control-plane --lost ${ID}`, PATIENCE);
  expect({ exitCode: second.exitCode, stderr: second.stderr }).toMatchObject({ exitCode: 0 });
  expect(second.stderr).toContain(`  removed ${ID} from etcd's members\n`);
  expect(second.stderr).not.toMatch(/delete node|kubeadm join|takes the place of/);
  expect(second.stderr).not.toMatch(new RegExp(`\ndone\\..*${ID}`));
  expect(scene.state.members).toEqual([MEMBER, THIRD]);
  expect(await scene.node.run("02-control-plane", PATIENCE)).toMatchObject({ exitCode: 0 });
});

test("03-workers open names one that never started with the line of part 2, and takes its id", async () => {
  using scene = await repaired([MEMBER, NAMELESS, THIRD]);
  const open = await scene.node.run("03-workers open --dry-run", { KUBE_PKI_REPAIR_PATIENCE: "0.05" });
  expect(open.stderr).toContain(
    `  ${ID} never started: a join was cut off. Take it out, and that machine can join again: ${OUT}\n`,
  );
  const again = await scene.node.run(`03-workers open --dry-run --lost ${ID}`, {
    KUBE_PKI_REPAIR_PATIENCE: "0.05",
  });
  expect(again.stderr).not.toContain("etcd knew no node");
});

test("00-assess names a member that has no vote, and one that never started, each with what ends it, and calls neither a damage", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    members: [MEMBER, NAMELESS, { ...THIRD, isLearner: true }],
  });
  const { stdout, stderr } = await node.run("00-assess", PATIENCE);
  expect({ stdout, stderr }).toMatchObject({
    stdout: expect.stringMatching(
      /^ {2}etcd's member m3 +note +has no vote: a join is in progress there, or was cut off\./m,
    ),
  });
  expect(stdout).toContain(`never started: a join was cut off. Part 2 takes it out: ${OUT}\n`);
  expect(stdout).toStartWith("verdict: nothing is damaged on this node, but its API server does not answer");
});

test("plan --lost an id of etcd: it is no node, and the hint says what takes it out", async () => {
  using scene = await repaired([MEMBER, NAMELESS, THIRD]);
  const { exitCode, stderr } = await scene.node.run(`plan --lost ${ID}`, PATIENCE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain(
    `${ID} is no node, but a member of etcd that never started\nhint: print the plan without it. Part 2`,
  );
  expect(stderr).toContain(`: ${OUT}\n`);
});

async function verified(members: Member[], alive: boolean) {
  using node = await pretendNode({ kind: "healthy control plane node", members });
  const state = { ...sameEtcd(node.stored), members };
  using _etcd = serveEtcd(node.root, state);
  using _third = alive ? await serveOtherMember(node.root, state, THIRD_AT) : undefined;
  using _api = serveRunning(node);
  return (await node.run("05-verify", PATIENCE)).stdout;
}

test("05-verify: a member that never started fails, with the line that takes it out; a learner is a warning, with the one that ends its join", async () => {
  expect(await verified([MEMBER, NAMELESS], false)).toContain(
    `  failed   etcd: members: 1 of 2 members answer, not ${ID}: it never started: take it out with ${OUT}\n`,
  );
  expect(await verified([MEMBER, { ...THIRD, isLearner: true }], true)).toMatch(
    /^ {2}warning {2}etcd: members: m3 has no vote: its join was cut off\. To end it: crictl exec .* member promote c1b2c3d4e5f60718$/m,
  );
});
