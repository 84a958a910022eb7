/**
 * RUNBOOK-MORE.md, "If you must edit": its line is typed in a kit's folder, and what the script then makes is
 * edited.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { certInfo } from "../../shared/pki/certificate.ts";
import { packFolder } from "../../tools/pack/pack-kit.ts";
import { OWN_ARCH } from "../kit/own-arch.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { afterPart1, servePart2 } from "../pretend/in-part2.ts";
import { pretendNode } from "../pretend/node.ts";

setDefaultTimeout(300_000);

const folder = mkdtempSync(join(tmpdir(), "kit-edit-"));
const kit = join(folder, "kit");
await packFolder(kit, [OWN_ARCH]);
afterAll(() => rmSync(folder, { recursive: true }));

const runbook = readFileSync(join(import.meta.dir, "../../RUNBOOK-MORE.md"), "utf8");
const section = runbook.split("\n## If you must edit\n")[1]!.split("\n## ")[0]!;
const sed = /^sed -i .*$/m.exec(section)?.[0] ?? "no line of sed";
const NAME = "api.example.com";

test("one more SAN, by the line of RUNBOOK-MORE.md: part 2 of the edited kit issues a certificate that has it", async () => {
  await $`sh -c ${sed}`.cwd(kit).quiet();
  const sums = await $`sha256sum -c SHA256SUMS 2>/dev/null | grep -v ": OK$"`.cwd(kit).nothrow().text();
  expect(sums.trim()).toBe("shared/pki/certs.ts: FAILED");
  expect((await $`./bunw scripts/02-control-plane.ts --help`.cwd(kit).quiet()).exitCode).toBe(0);

  using node = await afterPart1();
  using _etcd = node.etcd;
  // by the kit's own Bun, as ./bunw does: a pretend node has other programs than ./bunw asks for
  const run = Bun.spawn([join(kit, "bun", OWN_ARCH), "scripts/02-control-plane.ts"], {
    cwd: kit,
    env: { ...node.env, PWD: "/root", KUBE_PKI_REPAIR_ROOT: node.root, KUBE_PKI_REPAIR_PATIENCE: "1" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = new Response(run.stderr).text();
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), run.exited]);
  expect(node.exists("/etc/kubernetes/pki/apiserver.crt") || (await said)).toBe(true);
  using _api = servePart2(node);
  expect({ exitCode: await run.exited, said: await said }).toMatchObject({ exitCode: 0 });
  const { sans } = certInfo(node.read("/etc/kubernetes/pki/apiserver.crt"));
  expect(sans.dns).toContain(NAME);
  expect(sans.dns).toContain("kubernetes.default.svc");
});

test("a certificate that is valid without the SAN stays; where it is moved away, the edited kit would issue one", async () => {
  await $`sh -c ${sed}`.cwd(kit).quiet();
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const dryRun = async () => {
    const env = { ...node.env, PWD: "/root", KUBE_PKI_REPAIR_ROOT: node.root };
    const line = $`${join(kit, "bun", OWN_ARCH)} scripts/02-control-plane.ts --dry-run`;
    return (await line.cwd(kit).env(env).quiet()).stderr.toString();
  };
  expect(await dryRun()).toContain("unchanged /etc/kubernetes/pki/apiserver.crt");
  renameSync(`${node.root}/etc/kubernetes/pki/apiserver.crt`, `${node.root}/root/apiserver.crt`);
  expect(await dryRun()).toContain("would write /etc/kubernetes/pki/apiserver.crt");
});
