/** The hand-over as others see it: 05-verify, and a terminal. The age tool is asked in the lab. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { main } from "../../scripts/hand-over.ts";
import { readText, stat, writeFile } from "../../shared/files/files.ts";
import { backupAnswer, whyNoBackup } from "../../shared/hand-over/backup-mark.ts";
import { fingerprints } from "../../shared/hand-over/operators-bundle.ts";
import { newPassphrase } from "../../shared/prompt.ts";
import { onTerminal } from "../lab/checks/age-equal.ts";
import { PKI, put } from "../pretend/bundles.ts";
import {
  FILE,
  keys,
  mountMemory,
  NAMED,
  node,
  others,
  pack,
  recipient,
  unpack,
} from "../pretend/hand-over.ts";

setDefaultTimeout(300_000);

describe("05-verify", () => {
  test("says when no backup was made, or one of other keys, and is quiet after pack and after unpack", async () => {
    using _box = node();
    put(keys);
    expect(backupAnswer(PKI)).toMatchObject({
      warning: expect.stringContaining("no backup of these keys was made"),
    });
    expect(backupAnswer(PKI, ["m2", "m3"])).toEqual({
      warning: expect.stringMatching(
        /; if m2 or m3 made it: scp -p root@m2:\/etc\/kubernetes\/\.kube-pki-repair-backup \/etc\/kubernetes\/$/,
      ),
    });
    await pack();
    expect(backupAnswer(PKI)).toMatch(/^bundle\.age, \d{4}-/);
    expect(stat("/etc/kubernetes/.kube-pki-repair-backup")!.mode).toBe(0o644);
    put(others, ["sa.key", "sa.pub"]);
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("holds other keys (sa)") });
    await unpack("--move-aside");
    expect(backupAnswer(PKI)).toMatch(/^bundle\.age/);
    writeFile("/etc/kubernetes/.kube-pki-repair-backup", "{");
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("no backup") });
  });
});

describe("a bundle that only travels", () => {
  const FOLDER = "/run/kube-pki-repair";
  const travelling = `${FOLDER}/shared-keys.age`;
  const TOGETHER = (opener: string) =>
    `WARNING: "${FOLDER}/${opener}" opens "${travelling}", and together they are all keys of the cluster. `;

  test("in memory is no backup: pack says so, unpack leaves no mark, and 05-verify still asks for one", async () => {
    using box = node();
    mountMemory("/run", FOLDER);
    put(keys);
    await main(["pack", "--to", recipient, "--out", travelling]);
    expect(box.said).toContain(
      `${travelling} does not count as a backup: it is in memory, and gone when this machine is off. A backup: ./bunw scripts/hand-over.ts pack --generate --out /root/keys.age`,
    );
    await main(["unpack", travelling, "--identity", "/id", ...NAMED]);
    expect(backupAnswer(PKI)).toMatchObject({
      warning: expect.stringContaining("no backup of these keys was made"),
    });

    await main(["pack", "--to", recipient, "--out", "/root/keys.age"]);
    expect(box.said).toContain(
      "/root/keys.age counts as the backup of these keys: move it away from this machine, and store its identity elsewhere",
    );
    const needs = () => box.said.filter((line) => line.includes("A restore needs it"));
    expect(needs()).toEqual([
      expect.stringMatching(
        /^save the CA's fingerprint elsewhere: sha256:\w+\. A restore needs it: anybody can/,
      ),
    ]);
    expect(backupAnswer(PKI)).toMatch(/^keys\.age, /);
    await main(["pack", "--to", recipient, "--out", travelling, "--force"]);
    expect(backupAnswer(PKI)).toMatch(/^keys\.age, /);
    writeFile("/pass", "nine trees by the river\n");
    await main(["pack", "--passphrase-file", "/pass", "--out", "/root/locked.age"]);
    expect(box.said).toContain(
      "/root/locked.age counts as the backup of these keys: move it away from this machine, and store its passphrase elsewhere",
    );
    expect(needs()).toHaveLength(1);
  });

  test("in the kit's folder is none either, wherever that is", () => {
    using _box = node();
    const kit = join(import.meta.dir, "../..");
    expect(whyNoBackup(`${kit}/shared-keys.age`)).toBe(
      "it is in the kit's folder, which is removed after the repair",
    );
    expect([whyNoBackup(`${kit}-keys.age`), whyNoBackup("/root/keys.age")]).toEqual([undefined, undefined]);
  });

  test("beside the file that opens it: unpack and pack say what to remove, each file in the way that its place needs", async () => {
    using box = node();
    mountMemory(FOLDER);
    put(keys);
    for (const name of ["passphrase", "id"])
      writeFile(`${FOLDER}/${name}`, readText(`/${name}`)!, { mode: 0o600 });
    await main(["pack", "--passphrase-file", `${FOLDER}/passphrase`, "--out", travelling]);
    const both = `rm ${FOLDER}/passphrase ${travelling}`;
    expect(box.said).toContain(
      `${TOGETHER("passphrase")}When it is unpacked on every node that needs it: ${both}`,
    );
    await main(["unpack", travelling, "--passphrase-file", `${FOLDER}/passphrase`, "--dry-run"]);
    expect(box.said.join("\n")).not.toContain("This node no longer needs them");
    await main(["unpack", travelling, "--passphrase-file", `${FOLDER}/passphrase`]);
    expect(box.said).toContain(
      `${TOGETHER("passphrase")}This node no longer needs them, so remove them here: ${both}`,
    );
    expect([travelling, `${FOLDER}/passphrase`].map((path) => stat(path)?.kind)).toEqual(["file", "file"]);

    await main(["pack", "--to", recipient, "--out", travelling, "--force"]);
    await main(["unpack", travelling, "--identity", `${FOLDER}/id`, ...NAMED]);
    expect(box.said).toContain(
      `${TOGETHER("id")}This node no longer needs them, so remove them here: rm ${FOLDER}/id ${travelling}`,
    );
    await main(["unpack", travelling, "--identity", "/id", ...NAMED]);
    expect(box.said.join("\n")).toContain(`so remove them here: shred -u /id; rm ${travelling}\n`);
  });

  test("a backup that lies beside what opens it is not to be removed, but to be kept elsewhere", async () => {
    using box = node();
    put(keys);
    await pack();
    await unpack();
    expect(box.said).toContain(
      `WARNING: "/id" opens "${FILE}", and together they are all keys of the cluster. Keep them in two places, away from this machine`,
    );
  });
});

describe.skipIf(!Bun.which("script"))("on a terminal", () => {
  const script = (box: { dir: string }, args: string[]) => {
    const code = `import { join } from "node:path";
import { main } from "${import.meta.dir}/../../scripts/hand-over.ts"; import { run } from "${import.meta.dir}/../../shared/run.ts";
      import { setRoot } from "${import.meta.dir}/../../shared/files/files.ts"; setRoot("${box.dir}"); await run(() => main(${JSON.stringify(args)}));`;
    return (typed: string) => onTerminal(box.dir, `'${process.execPath}' -e "$CODE"`, typed, { CODE: code });
  };

  test("a passphrase is asked for twice and not shown", async () => {
    using box = node();
    put(keys);
    const shown = await script(box, ["pack", "--out", FILE])("open sesame, open\nopen sesame, open\n");
    expect(shown).toMatch(/Passphrase for the bundle: .*The same again: /s);
    // what was typed before the question came stands there as the terminal showed it: ours is what comes
    // after
    expect(shown.slice(shown.indexOf("Passphrase for"))).not.toContain("sesame");
    expect(await script(box, ["list", FILE])("open sesame, open\n")).toContain(fingerprints(keys).ca!);
    await expect(
      script(box, ["pack", "--out", FILE, "--force"])("open sesame, open\nopen sesame, shut\n"),
    ).rejects.toThrow("not the same");
  });

  test("a passphrase that is made is shown on it and nowhere else, and opens the bundle", async () => {
    using box = node();
    put(keys);
    const shown = await script(box, ["pack", "--out", FILE, "--generate"])("");
    const passphrase = /^ {2}([0-9a-z]{4}(?:-[0-9a-z]{4}){5})\r?$/m.exec(shown)![1]!;
    writeFile("/made", passphrase);
    await main(["list", FILE, "--passphrase-file", "/made"]);
    expect(new Set(Array.from({ length: 50 }, newPassphrase)).size).toBe(50);
  });
});
