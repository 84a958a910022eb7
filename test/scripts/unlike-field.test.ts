/**
 * Healthy stays healthy: clusters that differ from the usual one in their release, their files' places, their networks, and
 * the files that flags name.
 */
import { setDefaultTimeout } from "bun:test";
import { staysHealthy } from "../pretend/stays-healthy.ts";
import { LAYOUTS } from "../pretend/unlike-layout.ts";
import { NAMED_FILES } from "../pretend/unlike-named-files.ts";
import { NETWORKS } from "../pretend/unlike-networks.ts";
import { RELEASES } from "../pretend/unlike-releases.ts";

setDefaultTimeout(300_000);

staysHealthy([...RELEASES, ...LAYOUTS, ...NETWORKS, ...NAMED_FILES]);
