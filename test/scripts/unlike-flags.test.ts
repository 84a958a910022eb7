/**
 * Healthy stays healthy: clusters that differ from the usual one in one thing each, in their flags and
 * endpoints.
 */
import { setDefaultTimeout } from "bun:test";
import { staysHealthy } from "../pretend/stays-healthy.ts";
import { ENDPOINTS } from "../pretend/unlike-endpoints.ts";
import { FLAGS } from "../pretend/unlike-flags.ts";

setDefaultTimeout(300_000);

staysHealthy([...ENDPOINTS, ...FLAGS]);
