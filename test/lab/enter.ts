/** enter.ts NODE [COMMAND...]: a shell, or one command, on a node of the lab that is up. */
import { Fail } from "../../shared/fail.ts";
import { run } from "../../shared/run.ts";
import { Cluster } from "./machine/cluster.ts";

async function main() {
  const [name, ...command] = process.argv.slice(2);
  if (!name) throw new Fail("Enter which node?", { hint: "./bunw test/lab/enter.ts cp1 [COMMAND...]" });
  const node = Cluster.attach().node(name);
  const shell = command.length > 0 ? command : ["bash", "-l"];
  const env = { KUBECONFIG: "/etc/kubernetes/admin.conf" };
  const proc = node.spawn(shell, { env, stdin: "inherit", stdout: "inherit", stderr: "inherit" });
  process.exit(await proc.exited);
}

if (import.meta.main) await run(main);
