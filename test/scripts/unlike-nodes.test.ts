/**
 * Healthy stays healthy: clusters that differ from the usual one in one thing each, in their nodes, their
 * members and the machine.
 */
import { setDefaultTimeout } from "bun:test";
import { staysHealthy } from "../pretend/stays-healthy.ts";
import { HOSTS } from "../pretend/unlike-host.ts";
import { MEMBERS } from "../pretend/unlike-members.ts";
import { NAT } from "../pretend/unlike-nat.ts";
import { NODES } from "../pretend/unlike-nodes.ts";

setDefaultTimeout(300_000);

staysHealthy([...HOSTS, ...MEMBERS, ...NAT, ...NODES]);
