/** The kit is all that a node needs: here it is unpacked with no other Bun, no npm and no HOME. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { $, Glob } from "bun";
import { HOLD } from "../../shared/facts/course.ts";
import { packFolder } from "../../tools/pack/pack-kit.ts";
import { OWN_ARCH } from "./own-arch.ts";

const home = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "kit-test-"));
const kit = join(folder, "kit");
const bare = { PATH: "/usr/bin:/bin" };
await packFolder(kit, [OWN_ARCH]);
afterAll(() => rmSync(folder, { recursive: true }));

test("the kit's sums are right", async () => {
  await $`sha256sum --quiet -c SHA256SUMS`.cwd(kit).env(bare).quiet();
});

test("START-HERE says in ten lines what people see, then what comes first: stop the kubelet as part 0 does, then the plan", () => {
  const lines = readFileSync(`${kit}/START-HERE.txt`, "utf8").trim().split("\n");
  expect(lines.length).toBeLessThanOrEqual(10);
  expect(lines[0]).toMatch(/certificate has expired.*connection refused.*\/etc\/kubernetes/);
  const typed = lines.filter((line) => !line.startsWith("#"));
  expect(typed.slice(0, 2)).toEqual(HOLD.map(({ command }) => command));
  expect(typed.findIndex((line) => line.startsWith("./bunw "))).toBe(
    typed.findIndex((line) => line.includes("scripts/plan.ts")),
  );
});

test("the kit has the packages that run and none that only develop", () => {
  for (const name of ["zx", "age-encryption", "@noble/ciphers"])
    expect(existsSync(`${kit}/node_modules/${name}`)).toBe(true);
  expect(readdirSync(`${kit}/node_modules`)).not.toContain("typescript");
  expect(readdirSync(`${kit}/node_modules`)).not.toContain("@biomejs");
});

test("of a package the kit has a file for each module that a script imports, and the license of all that is in it", async () => {
  const files = [...new Glob("node_modules/**").scanSync(kit)];
  const loaded = files.filter((file) => !/\/(package\.json|licen[cs]e[^/]*)$/i.test(file));
  const imported = await $`grep -rhoE ${'(from|import) "[a-z@][^":]*"'} scripts shared`.cwd(kit).text();
  const modules = new Set(
    imported.match(/(?<=")[a-z@][^"]*(?=")/g)?.filter((name) => !/^(bun|zx)$/.test(name)),
  );
  expect(loaded.length).toBe(modules.size);
  for (const name of ["tsyringe", "asn1js", "@peculiar/asn1-schema", "zx", "yaml"])
    expect(files.some((file) => new RegExp(`^node_modules/${name}/licen[cs]e`, "i").test(file))).toBe(true);
});

test("the kit has what watches a cluster: alerts, a timer, and a service whose command the script knows", async () => {
  const files = [
    ...["alerts.example.yaml", "kube-pki-repair-mail.service"],
    ...["kube-pki-repair-verify.timer", "kube-pki-repair-verify.service"],
  ];
  for (const file of files) expect(existsSync(`${kit}/scripts/${file}`)).toBe(true);
  const unit = readFileSync(`${kit}/scripts/${files.at(-1)}`, "utf8");
  const [, bunw, script, options] = /^ {2}\.\/(bunw) (\S+) (.+) \|\|/m.exec(unit)!;
  const help = await $`./${bunw} ${script} --help`.cwd(kit).env(bare).text();
  for (const option of options!.match(/--[a-z-]+/g)!) expect(help).toContain(option);
});

test.each([...new Glob("scripts/*.ts").scanSync(home)].sort())(
  "in the kit, ./bunw %s --help works",
  async (script) => {
    const { stdout, stderr, exitCode } = await $`./bunw ${script} --help`
      .cwd(kit)
      .env(bare)
      .nothrow()
      .quiet();
    expect(stderr.toString()).toBe("");
    expect(exitCode).toBe(0);
    expect(stdout.toString()).toStartWith("Usage:");
  },
);

/** RUNBOOK-MORE.md's line, behind `cd` into the kit. */
test("a node can send its kit on, without what was put beside it", async () => {
  const more = readFileSync(`${home}/RUNBOOK-MORE.md`, "utf8");
  const [, line] = /`(cut -c67- SHA256SUMS \| tar -czf kit\.tar\.gz[^`]*)`/.exec(more)!;
  const [from, other] = [join(folder, "from"), join(folder, "other")];
  await $`cp -R ${kit} ${from} && mkdir ${other}`;
  writeFileSync(`${from}/keys.age`, "keys");
  await $`sh -c ${line}`.cwd(from);
  await $`tar -C ${other} -xzf ${from}/kit.tar.gz`;
  await $`sha256sum --quiet -c SHA256SUMS`.cwd(other);
  expect(readdirSync(other).sort()).toEqual(readdirSync(kit).sort());
});

/** As GitHub makes it of a heading. */
const anchorOf = (title: string) =>
  title
    .toLowerCase()
    .replace(/[^\w -]/g, "")
    .replaceAll(" ", "-");

/** `page`: its path in the kit. */
function deadLinks(page: string): string[] {
  const links = readFileSync(join(kit, page), "utf8").matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g);
  return [...links].flatMap(([, path, anchor]) => {
    const file = path ? join(dirname(page), path) : page;
    if (!existsSync(join(kit, file))) return [`${page}: ${file}`];
    const titles = readFileSync(join(kit, file), "utf8").matchAll(/^#+ (.+)$/gm);
    return !anchor || [...titles].some(([, title]) => anchorOf(title!) === anchor)
      ? []
      : [`${page}: ${file}#${anchor}`];
  });
}

test("each relative link of each page in the kit leads to a file and a heading of the kit", () => {
  const pages = [...new Glob("**/*.md").scanSync(kit)].filter((page) => !page.startsWith("node_modules/"));
  expect(pages).toContain("README.md");
  expect(pages.flatMap(deadLinks)).toEqual([]);
});

test("packing twice gives the same sums", async () => {
  const again = join(folder, "again");
  await packFolder(again, [OWN_ARCH]);
  expect(readFileSync(`${again}/SHA256SUMS`, "utf8")).toBe(readFileSync(`${kit}/SHA256SUMS`, "utf8"));
});
