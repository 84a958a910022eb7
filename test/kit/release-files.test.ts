/** What a release has beside its kits, and that a kit says the version that its sources have a right to. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { kitFiles, packFolder } from "../../tools/pack/pack-kit.ts";
import { BUN_VERSION, NODES_BUN } from "../../tools/pack/write-kit.ts";
import { debOf } from "../../tools/release/deb.ts";
import { billOfMaterials } from "../../tools/release/sbom.ts";
import { versionOf } from "../../tools/release/version.ts";
import { onNode } from "../pretend/no-node.ts";
import { OWN_ARCH } from "./own-arch.ts";

/** Milliseconds: a whole kit is packed and unpacked, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "release-test-"));
const kit = join(folder, "kit");
afterAll(() => rmSync(folder, { recursive: true }));
await onNode("/", () => packFolder(kit, [OWN_ARCH]));

test("a kit says the version of its sources on --version, and its package.json is otherwise the checkout's", async () => {
  const version = versionOf(HOME);
  expect(await $`${kit}/bunw ${kit}/scripts/05-verify.ts --version`.text()).toBe(
    `kube-pki-repair ${version}\n`,
  );
  const [packed, ours] = [kit, HOME].map((home) =>
    JSON.parse(readFileSync(join(home, "package.json"), "utf8")),
  );
  expect(packed).toEqual({ ...ours, version });
  expect(ours.version).toEndWith("+checkout");
});

test("the bill of materials names each package of a kit with its licence and its sum, and each Bun", () => {
  const bom = JSON.parse(billOfMaterials(HOME, "1.2.3", ["x64", "arm64"]));
  const components = bom.components as {
    name: string;
    version: string;
    purl: string;
    licenses: { license: { id?: string; name?: string } }[];
    hashes: { content: string }[];
  }[];
  const inKit = readdirSync(join(kit, "node_modules")).flatMap((name) =>
    name.startsWith("@")
      ? readdirSync(join(kit, "node_modules", name)).map((part) => `${name}/${part}`)
      : name,
  );
  const names = components.map(({ name }) => name);
  expect(inKit.filter((name) => !names.includes(name))).toEqual([]);
  expect(bom.metadata.component).toMatchObject({ name: "kube-pki-repair", version: "1.2.3" });
  for (const { name, version, purl, licenses, hashes } of components) {
    expect(purl).toBe(`pkg:npm/${name.replace("@", "%40")}@${version}`);
    expect(hashes[0]!.content).toMatch(/^[0-9a-f]{128}$/);
    expect(licenses[0]!.license.id ?? licenses[0]!.license.name).toMatch(/^[A-Z0-9][\w.-]+/);
  }
  expect(components.filter(({ name }) => name.startsWith("@oven/"))).toEqual(
    (["x64", "arm64"] as const).map((arch) =>
      expect.objectContaining({
        ...{ name: NODES_BUN[arch].name, version: BUN_VERSION },
        hashes: [{ alg: "SHA-512", content: Buffer.from(NODES_BUN[arch].sum, "base64").toString("hex") }],
      }),
    ),
  );
});

test("it has no time and no random number: the same sources give the same bytes", () => {
  const text = billOfMaterials(HOME, "1.2.3", ["x64"]);
  expect(billOfMaterials(HOME, "1.2.3", ["x64"])).toBe(text);
  expect(text).not.toMatch(/timestamp|serialNumber/);
});

test("START-HERE's lines are typed as they stand, on a machine that is no node: each answers, with its next command", async () => {
  const lines = readFileSync(join(kit, "START-HERE.txt"), "utf8").trim().split("\n");
  const typed = lines.filter((line) => line.startsWith("./bunw "));
  expect(typed.map((line) => line.split(" ")[1])).toEqual(
    ["plan", "repair", "00-assess"].map((name) => `scripts/${name}.ts`),
  );
  const env = { PATH: process.env.PATH, HOME: folder, KUBE_PKI_REPAIR_ROOT: join(folder, "no-node") };
  for (const line of typed) {
    const { exitCode, stdout, stderr } = await $`sh -c ${line} < /dev/null`
      .cwd(kit)
      .env(env)
      .quiet()
      .nothrow();
    expect([line, exitCode, `${stdout}${stderr}`]).toEqual([
      // no plan, and so no repair
      ...[line, line.includes("/repair.ts") ? 1 : 3],
      expect.stringMatching(/^error: .+\nhint: /m),
    ]);
  }
  expect(lines.at(-1)).toMatch(/^less RUNBOOK\.md /);
  expect(readFileSync(join(kit, "RUNBOOK.md"), "utf8")).toBe(readFileSync(join(HOME, "RUNBOOK.md"), "utf8"));
});

test("each package of a kit has its licence beside it, and Bun's is there, too", () => {
  const licences = readFileSync(join(kit, "licences/bun.md"), "utf8");
  expect(licences).toContain(`Bun ${BUN_VERSION}`);
  expect(licences).toContain("JavaScriptCore");
});

test("dpkg-deb reads the package: the kit as it is in its own archive, and units whose commands the kit knows", async () => {
  const files = await onNode("/", () => kitFiles([OWN_ARCH], "1.2.3+4.gabc"));
  const about = { arch: OWN_ARCH, version: "1.2.3+4.gabc" };
  const deb = join(folder, "watch.deb");
  await Bun.write(deb, debOf(files, about));
  expect(debOf(files, about)).toEqual(Buffer.from(await Bun.file(deb).arrayBuffer()));
  const fields = await $`dpkg-deb -f ${deb} Package Version Architecture`.text();
  expect(fields).toBe(
    `Package: kube-pki-repair\nVersion: 1.2.3+4.gabc\nArchitecture: ${OWN_ARCH === "x64" ? "amd64" : "arm64"}\n`,
  );
  const root = join(folder, "root");
  await $`dpkg-deb -R ${deb} ${root}`;
  const opt = join(root, "opt/kube-pki-repair");
  expect((await $`sha256sum -c SHA256SUMS`.cwd(opt).quiet().nothrow()).exitCode).toBe(0);
  expect((await $`md5sum -c DEBIAN/md5sums`.cwd(root).quiet().nothrow()).exitCode).toBe(0);
  expect(statSync(opt).mode & 0o777).toBe(0o700);
  const units = join(root, "usr/lib/systemd/system");
  for (const name of readdirSync(units)) {
    const unit = readFileSync(join(units, name), "utf8");
    const lines = unit.replaceAll("\\\n", " ").match(/\.\/bunw scripts\/[^;|]*/g) ?? [];
    for (const line of lines) {
      const script = /scripts\/[\w-]+\.ts/.exec(line)![0];
      const help = await $`${opt}/bunw ${opt}/${script} --help`.text();
      for (const option of line.match(/--[a-z-]+/g)!)
        expect([name, help]).toEqual([name, expect.stringContaining(option)]);
    }
  }
});

test("sums made with a key are proved by the public key, and a flipped bit is named", async () => {
  const at = (name: string) => join(folder, name);
  await $`ssh-keygen -q -t ed25519 -N "" -C maintainers -f ${at("key")}`;
  const [type, key] = readFileSync(at("key.pub"), "utf8").split(" ");
  await Bun.write(at("allowed_signers"), `maintainers ${type} ${key}\n`);
  await Bun.write(at("SHA256SUMS"), readFileSync(join(kit, "SHA256SUMS")));
  const contributing = readFileSync(join(HOME, "CONTRIBUTING.md"), "utf8");
  const [sign, verify] = ["ssh-keygen -Y sign", "ssh-keygen -Y verify"].map((begin) => {
    const line = contributing.split("\n").find((one) => one.startsWith(begin));
    return line!.replace(/ *#.*/, "").replace("releases/allowed_signers", "allowed_signers");
  });
  await $`sh -c ${sign!.replace(" KEY ", " key ")}`.cwd(folder).quiet();
  const proved = () => $`sh -c ${verify!}`.cwd(folder).quiet().nothrow();
  expect((await proved()).exitCode).toBe(0);
  const bytes = readFileSync(at("SHA256SUMS"));
  bytes[10]! ^= 1;
  await Bun.write(at("SHA256SUMS"), bytes);
  expect((await proved()).exitCode).not.toBe(0);
});
