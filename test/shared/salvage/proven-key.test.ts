/** A key of RSA whose numbers do not belong together may still sign, and Go refuses it: so it is not proved. */
import { expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { der } from "../../../shared/pki/keys.ts";
import { pemAt, provenKey } from "../../../shared/salvage/disk/pem-block.ts";

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const NUMBERS = privateKey.export({ format: "jwk" }) as Record<string, string>;

function integer(bytes: Buffer): Buffer {
  return bytes[0]! & 0x80 ? der(2, Buffer.from([0]), bytes) : der(2, bytes);
}

/** RSAPrivateKey (RFC 8017, A.1.2); `changed`: a number with another last bit but one. */
function pemOf(changed?: string): string {
  const number = (name: string) => {
    const bytes = Buffer.from(NUMBERS[name]!, "base64url");
    if (name === changed) bytes[bytes.length - 1]! ^= 2;
    return integer(bytes);
  };
  const parts = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(number);
  const base64 = der(0x30, integer(Buffer.from([0])), ...parts).toString("base64");
  const [begin, end] = ["BEGIN", "END"].map((word) => `-----${word} RSA PRIVATE KEY-----`);
  return [begin, ...base64.match(/.{1,64}/g)!, end, ""].join("\n");
}

test("a whole one is", () => {
  expect(provenKey(pemOf())?.key.asymmetricKeyType).toBe("rsa");
});

test.each(["n", "e", "d", "p", "q", "dp", "dq", "qi"])("one with another %s is not", (name) => {
  expect(provenKey(pemOf(name))).toBeUndefined();
});

test.each([
  ["PRIVATE KEY", "\n", "\n", true],
  ["PRIVATE KEY", "\r\n", "\r\n", true],
  ["PRIVATE KEY", "\r\n", "\n", false],
  ["DH PARAMETERS", "\n", "\n", false],
])("a block of %p with the line ends %p and %p is ours: %p", (label, first, second, isOurs) => {
  const line = Buffer.concat([Buffer.from("302e0201", "hex"), Buffer.alloc(48)]).toString("base64");
  const block = pemAt(Buffer.from(`-----BEGIN ${label}-----${first}${line.slice(0, 64)}${second}AAAA`));
  expect(block !== undefined).toBe(isOurs);
});

/** The first bytes of a SEQUENCE, in hex; whether that is how a key begins. */
test.each([
  ["302e0201", true],
  ["308204a4", true],
  ["30800201", false],
  ["30840000012e", false],
  ["040204a4", false],
])("a block whose first line begins with %s is a key's, cut or whole: %p", (head, isOurs) => {
  const line = Buffer.concat([Buffer.from(head, "hex"), Buffer.alloc(48)])
    .toString("base64")
    .slice(0, 64);
  const block = pemAt(Buffer.from(`-----BEGIN PRIVATE KEY-----\n${line}\nAAAA`));
  expect(block !== undefined).toBe(isOurs);
});
