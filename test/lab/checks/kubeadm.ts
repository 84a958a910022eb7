/** Our tables and our issuing equal what the lab's own kubeadm writes, field by field (kubeadm-equal.ts). */
import { join } from "node:path";
import { run } from "../../../shared/run.ts";
import { binaries } from "../machine/binaries.ts";
import { installPackages } from "../machine/packages.ts";
import { KUBERNETES } from "../machine/pins.ts";

async function main() {
  await installPackages();
  const kubeadm = (await binaries()).get("kubeadm")!;
  const command = [process.execPath, join(import.meta.dir, "kubeadm-equal.ts"), kubeadm, KUBERNETES];
  process.exitCode = await Bun.spawn(command, { stdout: "inherit", stderr: "inherit" }).exited;
}

if (import.meta.main) await run(main);
