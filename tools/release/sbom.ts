/** A kit's software bill of materials, in CycloneDX's form: the same bytes for the same sources. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../shared/fail.ts";
import { type Arch, BUN_VERSION, NODES_BUN } from "../pack/write-kit.ts";

/** An entry of bun.lock: name@version, registry, what it needs, its sum as npm writes it. */
type Locked = [name: string, registry: string, more: { dependencies?: object }, integrity: string];

interface Component {
  type: "library" | "application";
  "bom-ref": string;
  name: string;
  version: string;
  purl: string;
  hashes: { alg: "SHA-512"; content: string }[];
  licenses: { license: { id: string } | { name: string } }[];
}

const BUN_LICENCE = "MIT, with JavaScriptCore (LGPL-2) and others: licences/bun.md";

/**
 * CycloneDX 1.6: the packages that the kit has, with all that they need, and each Bun. No time and no random number is
 * in it. Errors: Fail where a package is not installed, or bun.lock does not know it.
 */
export function billOfMaterials(home: string, version: string, archs: readonly Arch[]): string {
  const { dependencies } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
  const locked = lockedIn(home);
  const names = [...withNeeds(locked, Object.keys(dependencies))].sort();
  const components = [
    ...names.map((name) => packageOf(home, locked, name)),
    ...archs.map((arch) => bunOf(arch)),
  ];
  const bom = {
    ...{ bomFormat: "CycloneDX", specVersion: "1.6", version: 1 },
    metadata: {
      component: {
        ...{ type: "application", "bom-ref": "kube-pki-repair", name: "kube-pki-repair", version },
        licenses: [{ license: { id: "MIT" } }],
      },
    },
    components,
    dependencies: [
      { ref: "kube-pki-repair", dependsOn: components.map((component) => component["bom-ref"]) },
    ],
  };
  return `${JSON.stringify(bom, null, 2)}\n`;
}

/** bun.lock is JSON with commas behind the last items. */
function lockedIn(home: string): Record<string, Locked> {
  const text = readFileSync(join(home, "bun.lock"), "utf8");
  return JSON.parse(text.replace(/,(?=\s*[}\]])/g, "")).packages;
}

function withNeeds(
  locked: Record<string, Locked>,
  names: readonly string[],
  found = new Set<string>(),
): Set<string> {
  for (const name of names.filter((name) => !found.has(name))) {
    const entry = locked[name];
    if (!entry)
      throw new Fail(`bun.lock does not know the package "${name}"`, { hint: "./bunw install" });
    found.add(name);
    withNeeds(locked, Object.keys(entry[2].dependencies ?? {}), found);
  }
  return found;
}

function packageOf(home: string, locked: Record<string, Locked>, name: string): Component {
  const [id, , , integrity] = locked[name]!;
  const version = id.slice(name.length + 1);
  const { license } = JSON.parse(
    readFileSync(join(home, "node_modules", name, "package.json"), "utf8"),
  );
  return component("library", { name, version, integrity, license: { id: String(license) } });
}

function bunOf(arch: Arch): Component {
  const { name, sum } = NODES_BUN[arch];
  const license = { name: BUN_LICENCE };
  return component("application", {
    name,
    version: BUN_VERSION,
    integrity: `sha512-${sum}`,
    license,
  });
}

/** `integrity`: "sha512-" and base64. */
function component(
  type: Component["type"],
  {
    name,
    version,
    integrity,
    license,
  }: {
    name: string;
    version: string;
    integrity: string;
    license: { id: string } | { name: string };
  },
): Component {
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const content = Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex");
  return {
    ...{ type, "bom-ref": purl, name, version, purl },
    hashes: [{ alg: "SHA-512", content }],
    licenses: [{ license }],
  };
}
