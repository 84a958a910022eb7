/** Builds the lab's cluster and leaves it up. */
import { parseArgs } from "node:util";
import { run } from "../../shared/run.ts";
import { Cluster } from "./machine/cluster.ts";
import { unlock } from "./machine/state.ts";

const USAGE = `usage: ./bunw test/lab/up.ts [--control-planes 1] [--workers 1]

Builds a real kubeadm cluster on this machine, out of namespaces, and leaves it up. Needs root. The first run compiles Kubernetes
(about 7 minutes on two cores). A lab that is already up is removed first.

  ./bunw test/lab/enter.ts cp1                     a shell on a node
  ./bunw test/lab/enter.ts cp1 kubectl get pods -A
  ./bunw test/lab/down.ts                          removes it completely; its logs stay`;

async function main() {
  const { values } = parseArgs({
    options: {
      "control-planes": { type: "string", default: "1" },
      workers: { type: "string", default: "1" },
      help: { type: "boolean" },
    },
  });
  if (values.help) return console.log(USAGE);
  const onProgress = (line: string) => console.error(`  ${line}`);
  const cluster = await Cluster.up({
    controlPlanes: Number(values["control-planes"]),
    workers: Number(values.workers),
    onProgress,
  });
  unlock();
  console.log(await cluster.kubectl("get", "nodes", "-o", "wide"));
  console.log(`./bunw test/lab/enter.ts cp1    ./bunw test/lab/down.ts`);
  process.exit(0);
}

if (import.meta.main) await run(main);
