/** What a failed lab leaves to read: journals, containers and pod logs of every node that is still on. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import type { Node } from "./node.ts";
import { sh } from "./shell.ts";
import { LAB } from "./state.ts";

const COMMANDS: Record<string, string[]> = {
  "kubelet.log": ["journalctl", "--no-pager", "-u", "kubelet"],
  "containerd.log": ["journalctl", "--no-pager", "-u", "containerd"],
  "crictl-ps.txt": ["crictl", "ps", "-a"],
  "processes.txt": ["ps", "axfww"],
};

export async function saveLogs(cluster: Cluster) {
  await Promise.all(cluster.nodes.map(async (node) => await saveLogsOf(node)));
  console.error(`  logs are in ${LAB}/logs`);
}

async function saveLogsOf(node: Node) {
  for (const [file, command] of Object.entries(COMMANDS)) {
    if (!node.isOn()) break;
    const { stdout, stderr } = await node.run(command);
    await writeFile(join(LAB, "logs", `${node.name}-${file}`), stdout + stderr);
  }
  const pods = node.path("/var/log/pods");
  if (existsSync(pods)) await sh(["cp", "-a", pods, join(LAB, "logs", `${node.name}-pods`)]);
}
