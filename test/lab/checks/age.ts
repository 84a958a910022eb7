/** The age tool opens what hand-over packs, and the other way round. */
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { bundleOf, sharedFiles } from "../../pretend/bundles.ts";
import { installPackages } from "../machine/packages.ts";
import { PROOFS, prove } from "./age-equal.ts";

async function main() {
  await installPackages();
  if (!Bun.which("age")) throw new Fail("The age tool is not on PATH", { hint: "apt-get install age" });
  const bundle = bundleOf(await sharedFiles());
  for (const name of Object.keys(PROOFS)) console.log(`${name}: ${await prove(name, bundle)}`);
}

if (import.meta.main) await run(main);
