/**
 * Which member of etcd's data is this machine's: by its id and an address, or a lone one that a restore has
 * left at localhost.
 */
import { expect, test } from "bun:test";
import { ownMember } from "../../../shared/etcd-location/reach-etcd.ts";

const HERE = ["10.0.0.1", "fd00::1"];
const member = (id: string, peerURL: string, ...clientURLs: string[]) => ({
  id,
  name: id,
  peerURLs: [peerURL],
  clientURLs,
  isLearner: false,
});
const LOCALHOST = "http://localhost:2380";
const OTHER = member("b", "https://10.0.0.2:2380");

test.each([
  ["its peer URL is here", [member("a", "https://10.0.0.1:2380"), OTHER], true],
  ["its peer URL is here, as IPv6", [member("a", "https://[fd00::1]:2380"), OTHER], true],
  ["restored alone, not yet started", [member("a", LOCALHOST)], true],
  ["restored alone, started here", [member("a", LOCALHOST, "https://10.0.0.1:2379")], true],
  [
    "restored alone, others have joined it since",
    [member("a", LOCALHOST, "https://10.0.0.1:2379"), OTHER],
    true,
  ],
  ["restored alone, started on another machine", [member("a", LOCALHOST, "https://10.0.0.2:2379")], false],
  ["at localhost beside others, not yet started", [member("a", LOCALHOST), OTHER], false],
  ["at another machine", [member("a", "https://10.0.0.2:2380")], false],
  [
    "another member's data, which knows this machine's too",
    [OTHER, member("c", "https://10.0.0.1:2380")],
    false,
  ],
  ["no URL", [member("a", "nonsense")], false],
])("%s", (_, members, isOwn) => {
  const memberId = members[0]!.id;
  expect(ownMember({ members, memberId }, HERE)).toBe(isOwn ? members[0] : undefined);
});
