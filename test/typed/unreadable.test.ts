/** kubeadm-config, which nobody can read: how an operator goes on with a corrected copy. Each other object and file: test/soak/nonsense.test.ts. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Objects } from "../pretend/cluster.ts";
import { write } from "../pretend/cluster.ts";
import { nodeHere } from "../pretend/typed-here.ts";

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
