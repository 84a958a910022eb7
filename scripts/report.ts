#!/usr/bin/env bun
/**
 * RUNBOOK 5.4: one page about a repair, over all nodes whose transcripts are here, and a bundle for
 * a colleague. Neither has a secret. Checks like 05-verify; writes only the files that you name.
 */
import { command } from "../shared/again.ts";
import { tellSummary } from "../shared/checks/print-checks.ts";
import { hintOf } from "../shared/checks/way.ts";
import { UsageError } from "../shared/fail.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { readNode } from "../shared/node/node.ts";
import { writeBundle, writeReport } from "../shared/report/write-report.ts";
import { run, step, tell, VERSION } from "../shared/run.ts";
import { verifyHere } from "../shared/verify/verify-here.ts";
import { wrapUp } from "../shared/verify/wrap-up.ts";

async function main() {
  const words = { words: 1, allowPositionals: true, file: "written" } as const;
  const { values, positionals } = parseOptions({ options: OPTIONS, usage: USAGE, ...words });
  const { bundle, logs, "etcd-data": etcdData } = values;
  const [page] = positionals;
  const hint = "./bunw scripts/report.ts --help";
  if (values["with-names"] && !bundle)
    throw new UsageError("--with-names needs --bundle", { hint });
  if (!page && !bundle)
    throw new UsageError("Name the file to write: FILE.html, or --bundle", { hint });
  const node = await readNode();
  tell(`kube-pki-repair ${VERSION}   report   node ${node.name}`);
  const found = await verifyHere(node, { etcdData, mustEnd: true });
  const input = { ...found, here: node.name, end: await wrapUp(node, found.partialFacts?.cp) };
  await step("5.4 Write down what was done", async () => {
    if (page) writeReport(page, logs, input);
    const more = { hostName: node.hostName, logs, withNames: values["with-names"], etcdData };
    if (bundle) await writeBundle(bundle, { ...input, ...more });
  });
  tellSummary(found.checks);
  if (!hintOf(found.checks)) return;
  tell(`hint: ${command("05-verify")} says what repairs each`);
  process.exitCode = 2;
}

const USAGE = `Usage:
    ./bunw scripts/report.ts FILE.html [--logs DIR] [--etcd-data DIR]
    ./bunw scripts/report.ts --bundle FILE.tar [--with-names] [--logs DIR] [--etcd-data DIR]

FILE.html, such as report.html, is one page about the repair, without a secret. It says what was
broken, what each run did and changed on which node, and what is left for people. The page is made
from the transcripts in the rescue folders, and from all checks of 05-verify, on a control plane
node. Both files may be asked for at once. Reads only; it writes the files that you name.

Options:
    --bundle FILE    Write a tar file for a colleague or an issue: transcripts, the output of
                     00-assess and all checks, even if the cluster cannot be read. No key and no
                     token is in it; host names and addresses are aliases.
    --with-names     Keep host names and addresses in the bundle.
    --logs DIR       The folder of the other nodes' transcripts, one NODE.tar each. Without it, the
                     lines that bring them are printed.

Exit codes: 0 written and no check failed, 1 could not look or write, 2 written and a check failed,
            3 refused: this is no node of a kubeadm cluster`;

const OPTIONS = {
  bundle: { type: "string", path: "written" },
  "with-names": { type: "boolean" },
  logs: { type: "string", path: "proved" },
  "etcd-data": { type: "string", path: "proved" },
} as const;

if (import.meta.main) await run(main);
