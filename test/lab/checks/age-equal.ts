/**
 * The `age` tool opens what hand-over packs, and the other way round: with an identity, in armor, with a
 * passphrase typed on a terminal.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { Fail } from "../../../shared/fail.ts";
import { type Bundle, packTar, unpackTar } from "../../../shared/hand-over/bundle.ts";
import { open, seal } from "../../../shared/hand-over/sealed.ts";
import { SHARED_FILES } from "../../../shared/pki/certs.ts";
import { run } from "../../../shared/run.ts";
import { bundleOf, sharedFiles } from "../../pretend/bundles.ts";
import { installPackages } from "../machine/packages.ts";

export const PASSPHRASE = "nine trees by the river";

/** A question to the tool: a yes is a sentence, a no is a Fail. */
type Proof = (folder: string, bundle: Bundle) => Promise<string>;

const PROOFS: Record<string, Proof> = {
  "age and tar list what pack sealed for a recipient": async (folder, bundle) => {
    writeFileSync(
      `${folder}/ours.age`,
      await seal(packTar(bundle), { recipients: [await recipient(folder)] }),
    );
    const listed = await $`age -d -i id ours.age | tar -tv`.cwd(folder).text();
    const modes = listed.split("\n").filter(Boolean);
    same(
      "names",
      modes.map((line) => line.split(/\s+/).at(-1)),
      ["MANIFEST.json", ...SHARED_FILES],
    );
    same(
      "modes of keys",
      modes.filter((line) => line.startsWith("-rw-------")).length,
      SHARED_FILES.length - 3,
    );
    await $`mkdir pki && age -d -i id ours.age | tar -x -C pki`.cwd(folder);
    for (const name of SHARED_FILES)
      same(name, readFileSync(`${folder}/pki/${name}`, "utf8"), text(bundle, name));
    return `${modes.length} files`;
  },

  "unpack takes what tar and age packed by hand": async (folder, bundle) => {
    await $`mkdir -p etc/kubernetes/pki/etcd`.cwd(folder);
    for (const name of SHARED_FILES)
      writeFileSync(`${folder}/etc/kubernetes/pki/${name}`, text(bundle, name));
    const paths = SHARED_FILES.map((name) => `etc/kubernetes/pki/${name}`);
    await $`tar -cf - ${paths} | age -r ${await recipient(folder)} > hand.age`.cwd(folder);
    await $`tar -cf - ${paths} | age -a -r ${await recipient(folder)} > armored.age`.cwd(folder);
    for (const file of ["hand.age", "armored.age"]) {
      const { files, manifest } = unpackTar(await open(readFileSync(`${folder}/${file}`), identity(folder)), {
        certificatesDir: "/etc/kubernetes/pki",
      });
      same("manifest", manifest, undefined);
      for (const name of SHARED_FILES)
        same(name, Buffer.from(files.get(name)!).toString(), text(bundle, name));
    }
    return "binary and in armor";
  },

  "age opens what was sealed with a passphrase": async (folder) => {
    writeFileSync(`${folder}/secret.age`, await seal(Buffer.from("content"), { passphrase: PASSPHRASE }));
    await onTerminal(folder, "age -d -o secret.txt secret.age", `${PASSPHRASE}\n`);
    same("content", readFileSync(`${folder}/secret.txt`, "utf8"), "content");
    return "typed on a terminal";
  },

  "what age sealed with a passphrase opens": async (folder) => {
    writeFileSync(`${folder}/plain.txt`, "content");
    await onTerminal(folder, "age -p -o theirs.age plain.txt", `${PASSPHRASE}\n${PASSPHRASE}\n`);
    const content = await open(readFileSync(`${folder}/theirs.age`), { passphrase: PASSPHRASE });
    same("content", Buffer.from(content).toString(), "content");
    return "typed on a terminal";
  },
};

/** Runs one proof in a folder of its own. */
async function prove(name: string, bundle: Bundle): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "age-"));
  try {
    await $`age-keygen -o id`.cwd(folder).quiet();
    return await PROOFS[name]!(folder, bundle);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a command prints on a terminal of its own, while somebody types on it. */
export async function onTerminal(
  folder: string,
  command: string,
  typed: string,
  env: Record<string, string> = {},
): Promise<string> {
  const child = Bun.spawn(["script", "-qec", command, "/dev/null"], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  child.stdin.write(typed);
  child.stdin.flush();
  const shown = await new Response(child.stdout).text();
  child.stdin.end();
  if ((await child.exited) !== 0)
    throw new Fail(`${command}: exit ${child.exitCode}: ${shown.trim()}`, { hint: "type it yourself" });
  return shown;
}

async function recipient(folder: string): Promise<string> {
  return (await $`age-keygen -y id`.cwd(folder).text()).trim();
}

function identity(folder: string) {
  return { identityFile: readFileSync(`${folder}/id`, "utf8") };
}

function text({ files }: Bundle, name: string): string {
  return Buffer.from(files.get(name)!).toString();
}

function same(what: string, is: unknown, wanted: unknown) {
  if (Bun.deepEquals(is, wanted)) return;
  const shown = /\.(key|pub)$/.test(what) ? "another key" : JSON.stringify(is);
  throw new Fail(`${what}: ${shown} where it should be another`, {
    hint: "test/lab/checks/age-equal.ts compares",
  });
}

async function main() {
  await installPackages();
  if (!Bun.which("age")) throw new Fail("The age tool is not on PATH", { hint: "apt-get install age" });
  const bundle = bundleOf(await sharedFiles());
  for (const name of Object.keys(PROOFS)) console.log(`${name}: ${await prove(name, bundle)}`);
}

if (import.meta.main) await run(main);
