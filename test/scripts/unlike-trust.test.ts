/** Healthy stays healthy: clusters that differ from the usual one in who signs in how, and in what else the field has. */
import { setDefaultTimeout } from "bun:test";
import { staysHealthy } from "../pretend/stays-healthy.ts";
import { FIELD } from "../pretend/unlike-field.ts";
import { TRUST } from "../pretend/unlike-trust.ts";

setDefaultTimeout(300_000);

staysHealthy([...TRUST, ...FIELD]);
