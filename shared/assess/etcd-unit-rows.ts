/** The rows of the damage table about an etcd that is a systemd unit of this node: what of it is well. */
import { $ } from "zx/core";
import type { EtcdUnit } from "../etcd-location/etcd-unit.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { certInfo } from "../pki/certificate.ts";
import { day, timeVerdict } from "../pki/judge.ts";
import type { Row } from "./assessment.ts";
import { shown } from "./assessment.ts";

export async function etcdUnitRows({ path, name, dataDir, lostSettings, files }: EtcdUnit): Promise<Row[]> {
  const { exitCode } = await $({ quiet: true, nothrow: true })`systemctl is-active --quiet etcd`;
  const member = name ? `, member "${name}"` : "";
  return [
    { id: "etcd-unit", what: "etcd.service", state: exitCode === 0 ? "ok" : "!STOPPED!", detail: `${path}${member}, data in ${dataDir}` },
    ...lostSettings.map((what): Row => ({ id, what, state: "!MISSING!", detail: "etcd.service does not start without it" })),
    ...fileRows(files),
  ];
}

const id = "etcd-unit-file";

/** One row where all are well. Whether they fit each other is etcd's own matter: it runs with them. */
function fileRows(files: readonly string[]): Row[] {
  const rows = files.map(fileRow);
  const wrong = rows.filter(({ state }) => state !== "ok");
  if (wrong.length > 0 || rows.length === 0) return wrong;
  const [soonest] = rows.flatMap(({ detail }) => detail || []).sort();
  return [{ id, what: `${rows.length} files of etcd's own`, state: "ok", detail: soonest ? `the first expires on ${soonest}` : "" }];
}

function fileRow(what: string): Row {
  const text = attempt(() => readText(what));
  if (text === undefined) return { id, what, state: "!MISSING!", detail: "etcd's own; every new connection to it fails without it" };
  const info = text instanceof Fail || text.includes(" PRIVATE KEY-----") ? undefined : attempt(() => certInfo(text));
  if (text instanceof Fail || info instanceof Fail) return { id, what, state: "!UNREADABLE!", detail: "etcd's own" };
  const verdict = info && timeVerdict(info);
  return { id, what, state: shown(verdict?.[0] ?? "ok"), detail: verdict?.[1] ?? (info ? day(info.notAfter) : "") };
}
