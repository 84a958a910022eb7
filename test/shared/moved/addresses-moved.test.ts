import { expect, test } from "bun:test";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import { withMoved } from "../../../shared/etcd-location/reach-etcd.ts";
import { addressBefore, asMoved } from "../../../shared/pki/addresses.ts";

const MOVED = new Map([
  ["10.0.0.1", "10.1.0.1"],
  ["10.0.0.2", "10.0.0.3"],
  ["10.0.0.3", "10.0.0.2"],
  ["fd00::1", "fd00::99"],
  ["api.old.example", "api.example"],
  ["lab-api", "lab-front"],
]);

for (const [before, after] of [
  ["https://10.0.0.1:6443", "https://10.1.0.1:6443"],
  ["--node-ip=10.0.0.1", "--node-ip=10.1.0.1"],
  [
    "cp1=https://10.0.0.1:2380,cp2=https://10.0.0.2:2380",
    "cp1=https://10.1.0.1:2380,cp2=https://10.0.0.3:2380",
  ],
  ["at once: 10.0.0.2 10.0.0.3", "at once: 10.0.0.3 10.0.0.2"],
  ["10.0.0.1/32", "10.1.0.1/32"],
  ["host:10.0.0.1.", "host:10.1.0.1."],
  ["10.0.0.11", "10.0.0.11"],
  ["110.0.0.1", "110.0.0.1"],
  ["10.0.0.1.example", "10.0.0.1.example"],
  ["ip-10.0.0.1", "ip-10.0.0.1"],
  ["v10.0.0.1", "v10.0.0.1"],
  ["https://[fd00::1]:2380", "https://[fd00::99]:2380"],
  ["--node-ip=fd00:0:0:0:0:0:0:1", "--node-ip=fd00::99"],
  ["FD00::0001", "fd00::99"],
  ["fd00::11", "fd00::11"],
  ["fd00::1%eth0", "fd00::1%eth0"],
  ["12:34:56", "12:34:56"],
  ["::1", "::1"],
  ["https://api.old.example:6443", "https://api.example:6443"],
  ["- API.old.example", "- api.example"],
  ["my.api.old.example", "my.api.old.example"],
  ["api.old.example.com", "api.old.example.com"],
  ["api-old.example", "api-old.example"],
  ["https://lab-api:6443", "https://lab-front:6443"],
  ["https://lab-api/healthz", "https://lab-front/healthz"],
  ["controlPlaneEndpoint: lab-api:6443", "controlPlaneEndpoint: lab-front:6443"],
  ["name: lab-api", "name: lab-api"],
  ["https://lab-api-2:6443", "https://lab-api-2:6443"],
  // identifiers, in all forms in which kubeadm has a flag
  [
    "--service-account-issuer=https://10.0.0.1:6443 a 10.0.0.1",
    "--service-account-issuer=https://10.0.0.1:6443 a 10.1.0.1",
  ],
  [
    "--api-audiences=https://10.0.0.1:6443,https://api.old.example",
    "--api-audiences=https://10.0.0.1:6443,https://api.old.example",
  ],
  [
    "service-account-issuer: https://10.0.0.1:6443\nx: 10.0.0.1",
    "service-account-issuer: https://10.0.0.1:6443\nx: 10.1.0.1",
  ],
  [
    "- name: service-account-issuer\n  value: https://10.0.0.1:6443",
    "- name: service-account-issuer\n  value: https://10.0.0.1:6443",
  ],
  [
    '{"name":"service-account-issuer","value":"https://10.0.0.1:6443"},"10.0.0.1"',
    '{"name":"service-account-issuer","value":"https://10.0.0.1:6443"},"10.1.0.1"',
  ],
  [
    '"api-audiences" : "https://10.0.0.1:6443"\n"x" : "10.0.0.1"',
    '"api-audiences" : "https://10.0.0.1:6443"\n"x" : "10.1.0.1"',
  ],
  [
    "- name: 'api-audiences'\n  value: 'https://10.0.0.1'",
    "- name: 'api-audiences'\n  value: 'https://10.0.0.1'",
  ],
  [
    '{\n  "name": "api-audiences",\n  "value": "https://10.0.0.1"\n}, 10.0.0.1',
    '{\n  "name": "api-audiences",\n  "value": "https://10.0.0.1"\n}, 10.1.0.1',
  ],
  ["api-audiences, for value 10.0.0.1", "api-audiences, for value 10.1.0.1"],
  [
    "--service-account-jwks-uri=https://10.0.0.1:6443/openid",
    "--service-account-jwks-uri=https://10.1.0.1:6443/openid",
  ],
  ["https://lab-api.example:6443", "https://lab-api.example:6443"],
] as const)
  test(`"${before}" is "${after}"`, () => expect(asMoved(before, MOVED)).toBe(after));

test("without a move nothing is read in another way", () => {
  const data = {} as EtcdData;
  expect(withMoved(data, new Map())).toBe(data);
  expect(asMoved("10.0.0.1", new Map())).toBe("10.0.0.1");
  expect(addressBefore("10.0.0.1", new Map())).toBeUndefined();
});

test("what an address was before is found in any form, and a name has no such address", () => {
  expect(addressBefore("10.1.0.1", MOVED)).toBe("10.0.0.1");
  expect(addressBefore("fd00:0::99", MOVED)).toBe("fd00::1");
  expect(addressBefore("10.0.0.1", MOVED)).toBeUndefined();
  expect(addressBefore("lb.example", MOVED)).toBeUndefined();
});

test("members and decoded objects are where the machines are now, also after the data was read again", () => {
  const member = {
    id: "1",
    name: "cp1",
    peerURLs: ["https://10.0.0.1:2380"],
    clientURLs: ["https://10.0.0.1:2379"],
    isLearner: false,
  };
  const raw = { members: [member], asToday: <T>(object: T) => object } as unknown as EtcdData;
  const data = withMoved(raw, MOVED);
  expect(data.members).toEqual([
    { ...member, peerURLs: ["https://10.1.0.1:2380"], clientURLs: ["https://10.1.0.1:2379"] },
  ]);
  expect(raw.members[0]!.peerURLs).toEqual(["https://10.0.0.1:2380"]);
  raw.members = [{ ...member, name: "cp9" }];
  expect(data.members[0]!.name).toBe("cp9");

  const bytes = new Uint8Array([1]);
  const pod = { spec: { hosts: ["10.0.0.1", { host: "10.0.0.2" }], port: 6443, none: null, bytes } };
  expect(data.asToday(pod)).toBe(pod);
  expect(pod).toEqual({ spec: { hosts: ["10.1.0.1", { host: "10.0.0.3" }], port: 6443, none: null, bytes } });
});
