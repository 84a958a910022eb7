/** The hand-over as others see it: 05-verify, a terminal, and the age tool. */
import { describe, expect, test } from "bun:test";
import { main } from "../../scripts/hand-over.ts";
import { stat, writeFile } from "../../shared/files/files.ts";
import { backupAnswer } from "../../shared/hand-over/backup-mark.ts";
import { fingerprints } from "../../shared/hand-over/bundle.ts";
import { newPassphrase } from "../../shared/prompt.ts";
import { onTerminal, PROOFS, prove } from "../lab/checks/age-equal.ts";
import { bundleOf, PKI, put } from "../pretend/bundles.ts";
import { FILE, keys, node, others, pack, SLOW, unpack } from "../pretend/hand-over.ts";

describe("05-verify", () => {
  test("says when no backup was made, or one of other keys, and is quiet after pack and after unpack", async () => {
    using _box = node();
    put(keys);
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("no backup of these keys was made") });
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

describe.skipIf(!Bun.which("script"))("on a terminal", () => {
  const script = (box: { dir: string }, args: string[]) => {
    const code = `import { main } from "${import.meta.dir}/../../scripts/hand-over.ts"; import { run } from "${import.meta.dir}/../../shared/run.ts";
      import { setRoot } from "${import.meta.dir}/../../shared/files/files.ts"; setRoot("${box.dir}"); await run(() => main(${JSON.stringify(args)}));`;
    return (typed: string) => onTerminal(box.dir, `'${process.execPath}' -e "$CODE"`, typed, { CODE: code });
  };

  test(
    "a passphrase is asked for twice and not shown",
    async () => {
      using box = node();
      put(keys);
      const shown = await script(box, ["pack", "--out", FILE])("open sesame, open\nopen sesame, open\n");
      expect(shown).toMatch(/Passphrase for the bundle: .*The same again: /s);
      // what was typed before the question came stands there as the terminal showed it: ours is what comes after
      expect(shown.slice(shown.indexOf("Passphrase for"))).not.toContain("sesame");
      expect(await script(box, ["list", FILE])("open sesame, open\n")).toContain(fingerprints(keys).ca!);
      await expect(script(box, ["pack", "--out", FILE, "--force"])("open sesame, open\nopen sesame, shut\n")).rejects.toThrow(
        "not the same",
      );
    },
    SLOW,
  );

  test(
    "a passphrase that is made is shown on it and nowhere else, and opens the bundle",
    async () => {
      using box = node();
      put(keys);
      const shown = await script(box, ["pack", "--out", FILE, "--generate"])("");
      const passphrase = /^ {2}([0-9a-z]{4}(?:-[0-9a-z]{4}){5})\r?$/m.exec(shown)![1]!;
      writeFile("/made", passphrase);
      await main(["list", FILE, "--passphrase-file", "/made"]);
      expect(new Set(Array.from({ length: 50 }, newPassphrase)).size).toBe(50);
    },
    SLOW,
  );
});

describe.skipIf(!Bun.which("age"))("the age tool", () => {
  test.each(Object.keys(PROOFS))(
    "%s",
    async (name) => {
      await prove(name, bundleOf(keys));
    },
    SLOW,
  );
});
