/** Removes the lab completely; its logs stay. */
import { run } from "../../shared/run.ts";
import { Cluster } from "./machine/cluster.ts";
import { lock } from "./machine/state.ts";

async function main() {
  await lock({ waitSeconds: 10 });
  await Cluster.attach().down();
}

if (import.meta.main) await run(main);
