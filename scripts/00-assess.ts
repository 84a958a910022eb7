#!/usr/bin/env bun
/**
 * RUNBOOK part 0: what is damaged on this node, what survives, and the commands that mend it.
 * Reads only; run it on any node, at any time.
 */
import { parseArgs } from "node:util";
import { assess } from "../shared/assess/assess.ts";
import type { DeepOptions } from "../shared/assess/deep.ts";
import type { Assessment } from "../shared/assess/report.ts";
import { Fail } from "../shared/fail.ts";
import { answer, run, step, VERSION } from "../shared/run.ts";

const USAGE = `Usage:
    ./bunw scripts/00-assess.ts [--deep [--no-disk | --device DEVICE | --image FILE]] [--json] [--etcd-data DIR]

Says what is damaged on this node, where the old keys may still be, and which commands come next. Reads only.

Options:
    --deep           Search for each lost key, in memory, in the Secret kubeadm-certs and in free blocks of the disk, say where it can still be
                     had, and which rung of the ladder that is: 0 all is here, 1 another control plane node or the Secret, 2 memory, 3 the disk,
                     4 a new CA with old tokens kept valid, 5 everything new. Reads only: what is found is not kept anywhere.
    --no-disk        Leave the disk out: it is read whole, at its own speed.
    --device DEVICE, --image FILE
                     What to read instead of the device that /etc/kubernetes lies on.
    --json           Print the same as JSON.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --help           Print this text.

Exit codes: 0 nothing is damaged, 1 could not look, 2 damage found
`;

const OPTIONS = {
  deep: { type: "boolean" },
  "no-disk": { type: "boolean" },
  device: { type: "string" },
  image: { type: "string" },
  json: { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

async function main() {
  const { values } = parse();
  if (values.help) return console.log(USAGE);
  const assessment = await step("0.1 Look at this node", () =>
    assess(values["etcd-data"], deepOptions(values)),
  );
  if (values.json) answer(JSON.stringify(assessment, null, 2));
  else print(assessment);
  if (assessment.damaged) process.exitCode = 2;
}

function deepOptions({ deep, "no-disk": noDisk, device, image }: Values): DeepOptions | undefined {
  if (deep)
    return {
      disk: noDisk ? undefined : (image ?? device ?? "own"),
      diskOption: image ? `--image ${image}` : device ? `--device ${device}` : "",
    };
  if (!noDisk && !device && !image) return undefined;
  throw new Fail("--no-disk, --device and --image say where --deep is to search", {
    hint: "./bunw scripts/00-assess.ts --help",
  });
}

function print({
  node,
  role,
  kubernetes,
  cluster,
  damage,
  survivors,
  deep,
  verdict,
  next,
}: Assessment) {
  answer(
    `kube-pki-repair ${VERSION}   reads only   node ${node} (${role})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}\n`,
  );
  table(
    ["what", "state", "detail"],
    damage.map((row) => [row.what, row.state === "known" ? "note" : row.state, row.detail]),
  );
  if (cluster) answer(`\n  cluster, read from etcd: ${cluster}`);
  if (deep) {
    answer("\nlost keys, and where each can still be had");
    table(
      undefined,
      deep.keys.map((key) => [key.file, key.places[0]?.where ?? "nowhere", key.detail]),
    );
  } else if (survivors.length > 0) {
    answer("\nwhere the old keys may still be");
    table(
      undefined,
      survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]),
    );
  }
  answer(`\nverdict: ${verdict}`);
  if (next.length > 0) answer(`\nnext\n${next.map((line) => `  ${line}`).join("\n")}`);
}

/** Columns as wide as their widest cell. */
function table(head: string[] | undefined, rows: string[][]) {
  const all = head ? [head, ...rows] : rows;
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column]!.length)));
  for (const row of all)
    answer(
      `  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd(),
    );
}

function parse() {
  return parseArgs({ options: OPTIONS });
}

if (import.meta.main) await run(main);
