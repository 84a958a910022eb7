/** All rows of unlike.ts: for who plays each of them. */
import type { Unlike } from "./unlike.ts";
import { ADDONS } from "./unlike-addons.ts";
import { CAS } from "./unlike-cas.ts";
import { ENDPOINTS } from "./unlike-endpoints.ts";
import { FIELD } from "./unlike-field.ts";
import { FLAGS } from "./unlike-flags.ts";
import { HOSTS } from "./unlike-host.ts";
import { LAYOUTS } from "./unlike-layout.ts";
import { MEMBERS } from "./unlike-members.ts";
import { NAMED_FILES } from "./unlike-named-files.ts";
import { NAT } from "./unlike-nat.ts";
import { NETWORKS } from "./unlike-networks.ts";
import { NODES } from "./unlike-nodes.ts";
import { RELEASES } from "./unlike-releases.ts";
import { TRUST } from "./unlike-trust.ts";

export const ROWS: readonly Unlike[] = [
  ...[ENDPOINTS, CAS, FLAGS, HOSTS, MEMBERS, NAT, NODES, ADDONS],
  ...[RELEASES, LAYOUTS, NETWORKS, NAMED_FILES, TRUST, FIELD],
].flat();
