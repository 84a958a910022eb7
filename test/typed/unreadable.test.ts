/** What scripts say of objects and files that they cannot read, and how an operator goes on. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Objects } from "../pretend/cluster.ts";
import { write } from "../pretend/cluster.ts";
import { damage, nonsense, withMore } from "../pretend/nonsense.ts";
import { nodeHere, runsHere } from "../pretend/typed-here.ts";
import { unlike } from "../pretend/unlike.ts";
import type { Place } from "../pretend/unlike-cluster.ts";

setDefaultTimeout(300_000);

const CORRECTED = "/root/corrected-kubeadm-config.yaml";
const kubeadm = (objects: Objects) =>
  (objects["configmaps/kube-system/kubeadm-config"] as { data: { ClusterConfiguration: string } }).data;

test("while no API lives, a corrected copy of kubeadm-config takes its place, and nothing else changes", async () => {
  let right = "";
  const etcd = (objects: Objects) => {
    const data = kubeadm(objects);
    right = data.ClusterConfiguration;
    data.ClusterConfiguration = `${right}controlPlaneEndpoint: [fd00::1]:6443\n`;
  };
  using node = await nodeHere({ etcd });
  const part1 = "01-etcd --new-cas --dry-run";
  const refused = await node.run(part1);
  expect(refused.exitCode).toBe(3);
  expect(refused.stderr).toMatch(
    /kubeadm-config in etcd's data is no YAML: .* at line \d+, column \d+\nhint: /,
  );
  expect(refused.stderr).toContain(`./bunw scripts/00-assess.ts --kubeadm-config >${CORRECTED}`);
  // as a shell makes it, before the script runs
  write(`${node.root}${CORRECTED}`, "");
  const { stdout, exitCode } = await node.run("00-assess --kubeadm-config");
  expect({ stdout, exitCode }).toEqual({ exitCode: 0, stdout: expect.stringContaining("[fd00::1]:6443") });
  write(`${node.root}${CORRECTED}`, stdout);
  expect((await node.run(part1)).stderr).toContain(`${CORRECTED} is no YAML`);
  write(`${node.root}${CORRECTED}`, stdout.replace(/.*fd00.*\n/, ""));
  const goes = await node.run(part1);
  expect({ exitCode: goes.exitCode, stderr: goes.stderr }).toMatchObject({ exitCode: 0 });
  expect(goes.stderr).toContain(`kubeadm-config is read from ${CORRECTED}: `);
});

test("one that can be read counts, whatever lies there", async () => {
  using node = await nodeHere();
  write(`${node.root}${CORRECTED}`, "kubernetesVersion: v1.1.1\n");
  const { stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect(stderr).toContain("Kubernetes v1.34.4");
  expect(stderr).not.toContain(CORRECTED);
});

/** All that reads a control plane node; what writes only says what it would do. */
const READERS = [
  ...["00-assess", "00-assess --deep", "05-verify", "plan", "drill", "report", "hand-over pack --dry-run"],
  ...["00-salvage memory", "00-salvage secret", "00-salvage files", "01-etcd", "02-control-plane"].map(dry),
  ...["03-workers open", "03-workers close", "04-sa-tokens", "renew-ca", "move", "join-again"].map(dry),
];
const OF_LOST = ["00-assess", "plan", ...["01-etcd --new-cas", "00-salvage secret", "move"].map(dry)];

function dry(line: string): string {
  return `${line} --dry-run`;
}

/** `npm run soak` takes all of them. */
const EVERY = process.env.EVERY_ROW ? 1 : 263;
const ALWAYS = "configmaps/kube-system/kubeadm-config: cut off";
const ROWS = (await nonsense()).filter(({ name }, i) => i % EVERY === 0 || name === ALWAYS);

test.each(ROWS.map((row) => [row.name, row] as const))(
  "%s: each script goes on, or stops with a hint and no stack",
  async (name, row) => {
    const change = (place: Place) => {
      withMore(place);
      row.inEtcd?.(place);
    };
    const states = row.file?.path.startsWith("/etc/kubernetes") ? [false] : [false, true];
    for (const isLost of states) {
      using cluster = await unlike({ name, who: "this test", change }, runsHere, isLost);
      if (row.file) damage(cluster.node.root, row.file);
      for (const line of isLost ? OF_LOST : READERS) {
        const { exitCode, stdout, stderr, changed } = await cluster.run(line);
        const said = {
          line,
          exitCode,
          stack: /\n +at .*:\d+:\d+/.exec(stderr)?.[0],
          hint: /\n *(hint|stopped): ./.test(stderr),
        };
        expect({ ...said, changed, stderr: stderr.slice(-900) + stdout.slice(-300) }).toMatchObject({
          ...said,
          stack: undefined,
          changed: [],
        });
        // a plan that waits for a look, or for a word, says so on its page
        const isSaid =
          said.hint || (line === "plan" && exitCode === 3 && /^> Then print the plan again/m.test(stdout));
        const isAnswer = [0, 2].includes(exitCode) || ([1, 3].includes(exitCode) && isSaid);
        expect([line, isAnswer]).toEqual([line, true]);
      }
    }
  },
);
