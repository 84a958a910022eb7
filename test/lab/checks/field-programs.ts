#!/usr/bin/env bun
/** The programs of `field`, which its rehearsal needs beside those of each cluster: built once, so that the rehearsal itself takes its own time. */
import { run } from "../../../shared/run.ts";
import { field } from "../machine/field.ts";
import { installPackages } from "../machine/packages.ts";
import { addOnsOf } from "../machine/profile.ts";

async function main() {
  const addOns = addOnsOf(field({ controlPlanes: 1, earlierKey: "" }));
  await installPackages(addOns.flatMap(({ packages }) => packages));
  for (const addOn of addOns)
    for (const { name, files } of await addOn.images()) console.log(`${name}\t${Object.keys(files).length} files`);
}

if (import.meta.main) await run(main);
