/**
 * The file for Prometheus: every metric explained, label values escaped, no secret. promtool reads it in
 * test/lab/checks/metrics.ts.
 */
import { expect, test } from "bun:test";
import { metricsText, refuseMetricsPlace } from "../../../scripts/05-verify.ts";
import { found } from "../../../shared/checks/check.ts";

const NOW = new Date("2026-11-26T12:00:00Z");
const ENDS = { notBefore: NOW, notAfter: new Date("2027-11-26T12:00:00Z") };

const checks = [
  found({ id: "clock" }, "right"),
  found({ id: "node-ready", of: "w1" }, { failed: "no" }),
  found({ id: "node-ready", of: "w2" }, { failed: "no" }),
  found({ id: "backup" }, { warning: "none" }),
];

test("certificates, checks by result and by id, the backup's age, and when it was looked", () => {
  const endings = [{ kind: "certificate", path: '/a "b"\\c\nd.crt', ...ENDS } as const];
  const backup = new Date(NOW.getTime() - 86_400_000);
  const oldCa = [1, 2, 3].map((days) => ({
    kind: days > 2 ? "file" : "process",
    until: new Date(NOW.getTime() + days * 86_400_000),
  }));
  const lines = metricsText({ node: "m1", checks, endings, oldCa, backup }, NOW).trimEnd().split("\n");
  expect(lines.filter((line) => !line.startsWith("#") && !line.includes("_info{"))).toEqual([
    "kube_pki_repair_last_run_timestamp_seconds 1795694400",
    'kube_pki_repair_checks{result="ok",severity=""} 1',
    'kube_pki_repair_checks{result="unknown",severity=""} 0',
    'kube_pki_repair_checks{result="failed",severity="outage"} 2',
    ...["soon", "weakens", "note"].map(
      (severity) => `kube_pki_repair_checks{result="failed",severity="${severity}"} 0`,
    ),
    ...["outage", "soon"].map(
      (severity) => `kube_pki_repair_checks{result="warning",severity="${severity}"} 0`,
    ),
    'kube_pki_repair_checks{result="warning",severity="weakens"} 1',
    'kube_pki_repair_checks{result="warning",severity="note"} 0',
    'kube_pki_repair_bad_checks{id="node-ready",result="failed",severity="outage"} 2',
    'kube_pki_repair_bad_checks{id="backup",result="warning",severity="weakens"} 1',
    'kube_pki_repair_certificate_expiry_timestamp_seconds{kind="certificate",path="/a \\"b\\"\\\\c\\nd.crt"} 1827230400',
    'kube_pki_repair_old_ca_holders{kind="process"} 2',
    'kube_pki_repair_old_ca_holders{kind="file"} 1',
    'kube_pki_repair_old_ca_expiry_timestamp_seconds{kind="process"} 1795780800',
    'kube_pki_repair_old_ca_expiry_timestamp_seconds{kind="file"} 1795953600',
    "kube_pki_repair_backup_age_seconds 86400",
  ]);
  const names = lines.flatMap((line) => /^([a-z_]+)[{ ]/.exec(line)?.[1] ?? []);
  for (const name of new Set(names)) expect(lines).toContain(`# TYPE ${name} gauge`);
});

test("without a backup there is no age of one, and nobody holds an older CA where none was renewed", () => {
  expect(metricsText({ node: "m1", checks, endings: [], oldCa: [], backup: undefined }, NOW)).not.toMatch(
    /backup_age|expiry_timestamp|old_ca/,
  );
});

test("a place that node_exporter would not read is refused", () => {
  expect(() => refuseMetricsPlace("/tmp/metrics.txt")).toThrow(
    'only files that end in .prom, not "/tmp/metrics.txt"',
  );
  expect(() => refuseMetricsPlace("/no/such/folder/a.prom")).toThrow('There is no folder "/no/such/folder"');
});
