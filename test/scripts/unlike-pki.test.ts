/**
 * Healthy stays healthy: clusters that differ from the usual one in one thing each, in their CAs and what
 * else runs in them.
 */
import { setDefaultTimeout } from "bun:test";
import { staysHealthy } from "../pretend/stays-healthy.ts";
import { ADDONS } from "../pretend/unlike-addons.ts";
import { CAS } from "../pretend/unlike-cas.ts";

setDefaultTimeout(300_000);

staysHealthy([...ADDONS, ...CAS]);
