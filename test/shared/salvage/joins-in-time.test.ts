/** The proof of certificates in two pieces ends with the search: a stranger may have laid out any number of CAs. */
import { beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Budget } from "../../../shared/budget.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { Assembler, WORDS } from "../../../shared/salvage/disk/assembler.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { search } from "../../../shared/salvage/disk-search.ts";
import { FACTS } from "../../pretend/cluster.ts";
import { type Files, kubernetesFiles, noise } from "../../pretend/lost-disk.ts";

const CAS = 20;
let files: Files;
const strangers: string[] = [];

beforeAll(async () => {
  files = await kubernetesFiles("RSA-2048");
  for (let i = 0; i < CAS; i++)
    strangers.push((await issueCa(certRow("ca"), { ...FACTS, keyAlgorithm: "ECDSA-P256" })).cert);
});

/** etcd's certificate in two pieces, beside whole CAs: what is joined, and how often the search asked for its time. */
async function joinedBeside(cas: readonly string[], stopAt = Number.POSITIVE_INFINITY) {
  const dir = mkdtempSync(join(tmpdir(), "joins-"));
  const image = join(dir, "disk.img");
  const disk = noise((cas.length + 12) * 4096);
  const [head, tail] = [0, 1024].map((from) =>
    files["pki/etcd/server.crt"]!.slice(from, from === 0 ? 1024 : undefined),
  );
  for (const [i, text] of [head!, "", tail!, ...cas].entries())
    disk.fill(0, (i + 1) * 4096, (i + 2) * 4096).write(text, (i + 1) * 4096);
  writeFileSync(image, disk);
  let asked = Number.NEGATIVE_INFINITY;
  const stop = {
    get aborted() {
      return ++asked >= stopAt;
    },
  } as AbortSignal;
  try {
    using opened = new Disk(image);
    const budget = new Budget({ what: "it", seconds: 3600, bytes: 1e12, stop, hint: "more" });
    const assembler = new Assembler(opened, budget);
    for await (const { hits } of search(opened, WORDS))
      for (const { needle, offset } of hits) Array.from(assembler.look(needle, offset));
    asked = 0;
    const joined = [...assembler.joinedPems()].map(({ kind }) => kind);
    return { joined, asked, skipped: assembler.skipped() };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test("it is joined where its CA was found, and each further CA is asked for in time", async () => {
  const few = await joinedBeside([files["pki/etcd/ca.crt"]!]);
  expect(few).toMatchObject({ joined: ["certificate"], skipped: [] });
  const many = await joinedBeside([...strangers, files["pki/etcd/ca.crt"]!]);
  expect(many).toMatchObject({ joined: ["certificate"], skipped: [] });
  expect(many.asked - few.asked).toBe(CAS);
});

test("where the time is over between the join and its proof, it is not joined, and that is said", async () => {
  const { joined, skipped } = await joinedBeside([files["pki/etcd/ca.crt"]!], 2);
  expect(joined).toEqual([]);
  expect(skipped).toEqual([expect.stringContaining("were not tried with every possible second piece")]);
});
