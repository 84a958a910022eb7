/** What 05-verify writes where it is asked: the page about a repair, the bundle for others. */
import { Fail } from "../fail.ts";
import { writeBundle } from "./write-bundle.ts";
import { type Verified, writeReport } from "./write-report.ts";

interface Asked {
  report?: string | undefined;
  bundle?: string | undefined;
  logs?: string | undefined;
  "with-names"?: boolean | undefined;
  "etcd-data"?: string | undefined;
}

/** Undefined: nothing. Errors: Fail where --logs or --with-names has nothing to go with. */
export function whatToWrite(asked: Asked) {
  const { report, bundle, logs, "with-names": withNames, "etcd-data": etcdData } = asked;
  if (logs && !report && !bundle) throw new Fail("--logs needs --report or --bundle", { hint: "./bunw scripts/05-verify.ts --help" });
  if (withNames && !bundle) throw new Fail("--with-names needs --bundle", { hint: "./bunw scripts/05-verify.ts --help" });
  if (!report && !bundle) return undefined;
  /** Errors: as `writeReport` and `writeBundle`. */
  return async (verified: Verified & { hostName: string }) => {
    if (report) writeReport(report, logs, verified);
    if (bundle) await writeBundle(bundle, { ...verified, logs, withNames, etcdData });
  };
}
