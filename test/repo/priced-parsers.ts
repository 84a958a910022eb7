/** The parsers of bytes that others may have written, and texts that are made to be dear to each. */
import { generateKeyPairSync } from "node:crypto";
import { open } from "../../shared/hand-over/sealed.ts";
import { readTar, writeTar } from "../../shared/hand-over/tar.ts";
import { readUnit } from "../../shared/node/systemd-unit.ts";
import { decodeObject, isCborMap } from "../../shared/objects/storage.ts";
import { lookAtValue } from "../../shared/objects/whole-value.ts";
import { infosIn, privateKeysIn, publicKeysIn, trustedKeys } from "../../shared/pki/certificate.ts";
import { parseKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { readFirstYaml, readYaml } from "../../shared/yaml.ts";
import type { Priced } from "./parser-price.ts";

type Texts = Priced["texts"];

/** So many bytes of a unit, again and again. */
const run =
  (unit: string, { before = "", after = "" } = {}) =>
  (size: number) =>
    before + unit.repeat(Math.max(1, Math.ceil((size - before.length - after.length) / unit.length))) + after;

/** The same of numbered units. */
const numbered =
  (unit: (i: number) => string, { before = "", after = "" } = {}) =>
  (size: number) => {
    const parts = [before];
    for (let [i, length] = [1, before.length]; length < size; i++) {
      parts.push(unit(i));
      length += parts.at(-1)!.length;
    }
    return parts.join("") + after;
  };

/** Opened so often, and closed as often. */
const nested = (begin: string, end: string, inside: string) => (size: number) => {
  const depth = Math.ceil(size / (begin.length + end.length));
  return begin.repeat(depth) + inside + end.repeat(depth);
};

/** What a deep text costs if it is not too deep: ninety levels, as often as they fit. */
const often = (begin: string, end: string, inside: string) => (size: number) =>
  run(`- ${nested(begin, end, inside)(90 * (begin.length + end.length))}\n`)(size);

// biome-ignore-start format: tables
const YAML: Texts = {
  "keys in keys": run("? "),
  "keys in keys, a level a line": numbered((i) => `${" ".repeat(i)}?\n`),
  "keys in keys, not too deep": run(`- ${"? ".repeat(90)}\n`),
  "mappings as keys": nested("{", "}", "a"),
  "mappings as keys, not too deep": often("{", "}", "a"),
  "lists as keys": nested("{[", "]: b}", "a"),
  "lists as keys, not too deep": often("{[", "]: b}", "a"),
  "explicit keys in mappings": nested("{? ", "}", "a"),
  "explicit keys in mappings, not too deep": often("{? ", "}", "a"),
  "an alias to a list as a key": run("  *a : x\n", { before: "a: &a [b, c]\nd:\n" }),
  "lists in lists": nested("[", "]", "a"),
  "lists that are not closed": run("["),
  "mappings that are not closed": run("{"),
  "both, not closed": run("[{"),
  "mappings in mappings": nested("{a: ", "}", "b"),
  "mappings in mappings, not too deep": often("{a: ", "}", "b"),
  "lists in a line": run("- "),
  "a level a line": numbered((i) => `${" ".repeat(i)}a:\n`),
  "values in a line": run("a: "),
  colons: run(": "),
  commas: run(",", { before: "[", after: "]" }),
  "what closes nothing": run("]"),
  "the same, a line each": run("]\n"),
  keys: numbered((i) => `key${i}: 1\n`),
  "equal keys": run("a: 1\n"),
  items: run("- a\n"),
  "items in a line": run("a, ", { before: "[", after: "]" }),
  anchors: numbered((i) => `- &a${i} x\n`),
  "anchors in a line": run("&a "),
  "aliases in a line": run("*a "),
  "aliases to nothing": run("- *a\n"),
  "aliases of one": run("- *a\n", { before: "- &a x\n" }),
  "aliases of each": numbered((i) => `- &a${i} x\n- *a${i}\n`),
  "aliases of aliases": numbered((i) => `a${i}: &a${i} [${i > 1 ? `*a${i - 1}, *a${i - 1}` : "x"}]\n`),
  "a chain of aliases": numbered((i) => `a${i}: &a${i} [${i > 1 ? `*a${i - 1}` : "x"}]\n`),
  "aliases of aliases of nothing": numbered(
    (i) => `a${i}: &a${i} [${i > 1 ? `*a${i - 1}, *a${i - 1}` : ""}]\n`,
  ),
  "aliases of empty lists": (size) => `a: &a [${"[], ".repeat(size / 8)}]\nb:\n${"- *a\n".repeat(size / 10)}`,
  "aliases among items": (size) =>
    `${"- a\n".repeat(size / 8)}${numbered((i) => `- &a${i} [${i > 1 ? `*a${i - 1}` : ""}]\n`)(size / 2)}`,
  "merges of one": run("  <<: *a\n", { before: "a: &a {k: 1}\nb:\n" }),
  "merges of many keys": (size) =>
    `a: &a\n${numbered((i) => `  k${i}: 1\n`)(size)}b:\n${"  <<: *a\n".repeat(90)}`,
  "merges of merges": numbered((i) => `a${i}: &a${i} {${i > 1 ? `<<: *a${i - 1}, ` : ""}k${i}: 1}\n`),
  tags: run("- !!str a\n"),
  "tags in a line": run("!a "),
  directives: numbered((i) => `%TAG !a${i}! b\n`, { after: "---\na: 1\n" }),
  "directives that nobody knows": run("%FOO\n", { after: "---\na\n" }),
  "one word": run("x"),
  words: run("a "),
  lines: run("a\n"),
  blanks: run(" ", { before: "a:", after: "b" }),
  "empty lines": run("\n", { before: "a: >\n", after: "  b" }),
  "line ends": run("\r\n"),
  "a block": run(" a\n", { before: "a: |\n" }),
  "a folded block": run(" a\n\n", { before: "a: >\n" }),
  "single quotes": run("'"),
  "double quotes": run('"'),
  "lines in quotes": run("a\n ", { before: 'a: "', after: '"' }),
  escapes: run("\\u0041", { before: '"', after: '"' }),
  "wrong escapes": run("\\q", { before: '"', after: '"' }),
  comments: run("#a\n"),
  "comments behind items": run("- a #b\n"),
  documents: run("---\na\n"),
  digits: run("1", { before: "- " }),
  "digits with underscores": run("1_", { before: "- 1.", after: "x" }),
  "letters that begin nothing": run("@\n"),
  "blocks without text": run("a: |\n"),
};

const DOCUMENTS: Texts = {
  documents: run("---\na\n"),
  "documents behind the first": run("---\n? ? ? ? a\n", { before: "a: 1\n" }),
  "ends of documents": run("...\n"),
  "keys in keys": run("? "),
};

const CONFIG = (users: string) =>
  `apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: https://x}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\nusers:\n${users}`;
const KUBECONFIGS: Texts = {
  users: numbered((i) => `- {name: u${i}, user: {token: x}}\n`, { before: CONFIG("") }),
  "users of one name": run("- {name: a, user: {token: x}}\n", { before: CONFIG("") }),
  "fields of a user": numbered((i) => `    f${i}: x\n`, { before: CONFIG("- name: a\n  user:\n") }),
  "a certificate": run("LS0tLS1CRUdJTi", {
    before: CONFIG("- name: a\n  user:\n    client-certificate-data: "),
  }),
  contexts: numbered((i) => `- {name: c${i}, context: {cluster: a, user: a}}\n`, {
    before: "current-context: zz\ncontexts:\n",
  }),
  "keys in keys": (size) => CONFIG("? ".repeat(size / 2)),
};

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))];
const field = (number: number, content: Uint8Array) =>
  Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(content.length)]), content]);
const META = field(1, Buffer.concat([field(1, Buffer.from("v1")), field(2, Buffer.from("Pod"))]));
const stored = (pod: Uint8Array) => Buffer.concat([Buffer.from("k8s\0"), META, field(2, pod)]);
const podOf = (part: Uint8Array) => (size: number) =>
  stored(Buffer.alloc(size - (size % part.length) + part.length, part));
/** A message in a message, from the inside out. */
const deepPod = (number: number) => (size: number) => {
  const heads: Buffer[] = [];
  for (let length = 0; length < size; ) {
    const head = Buffer.from([...varint(number * 8 + 2), ...varint(length)]);
    heads.push(head);
    length += head.length;
  }
  return stored(Buffer.concat(heads.reverse()));
};

const OBJECTS: Texts = {
  "fields that nobody knows": podOf(Buffer.from([0xa0, 0x3e, 1])),
  "empty messages": podOf(Buffer.from([0x12, 0])),
  "metadata again and again": podOf(Buffer.from([0x0a, 3, 0x0a, 1, 0x61])),
  containers: podOf(field(2, field(2, field(1, Buffer.from("a"))))),
  labels: podOf(field(1, field(11, Buffer.concat([field(1, Buffer.from("k")), field(2, Buffer.from("v"))])))),
  "messages in messages": deepPod(2),
  zeros: podOf(Buffer.from([0])),
  "long numbers": podOf(Buffer.from([0xff])),
  "lists in lists, JSON": nested('{"a":[', "]}", "1"),
  "lists that are not closed, JSON": run("[", { before: '{"a":' }),
  "keys, JSON": numbered((i) => `"k${i}":1,`, { before: "{", after: '"z":1}' }),
  "numbers, JSON": run("1", { before: '{"a":', after: "}" }),
  "escapes, JSON": run("\\u0041", { before: '{"a":"', after: '"}' }),
};

const CBOR = "\u00d9\u00d9\u00f7";
const CBORS: Texts = {
  "maps in maps": run("\u00a1\u0061a", { before: CBOR }),
  tags: run("\u00c1", { before: `${CBOR}\u00a1\u0061a` }),
  items: (size) =>
    `${CBOR}\u00a1\u0061a\u009a\u0000${String.fromCharCode((size >> 16) & 255, (size >> 8) & 255, size & 255)}${"\u0001".repeat(size)}`,
  "a list of more than there is": run("\u0001", {
    before: `${CBOR}\u00a1\u0061a\u009a\u00ff\u00ff\u00ff\u00ff`,
  }),
};

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const [PUBLIC, PRIVATE] = [
  String(publicKey.export({ type: "spki", format: "pem" })),
  String(privateKey.export({ type: "pkcs8", format: "pem" })),
];
const pem = (der: Uint8Array, label = "CERTIFICATE") =>
  `-----BEGIN ${label}-----\n${Buffer.from(der).toString("base64").replaceAll(/.{64}/g, "$&\n")}\n-----END ${label}-----\n`;
/** DER, with a length of any size. */
const der = (tag: number, content: Uint8Array) => {
  const size: number[] = [];
  for (let left = content.length; left > 0; left = Math.floor(left / 256)) size.unshift(left & 255);
  return Buffer.concat([
    Buffer.from(content.length < 128 ? [tag, content.length] : [tag, 128 | size.length, ...size]),
    content,
  ]);
};
const deepDer = (size: number) => {
  const heads: Buffer[] = [];
  for (let length = 0; length < (size * 3) / 4; ) {
    const bytes = [length & 255, (length >> 8) & 255, (length >> 16) & 255];
    const head = Buffer.from([0x30, 0x83, bytes[2]!, bytes[1]!, bytes[0]!]);
    heads.push(head);
    length += head.length;
  }
  return pem(Buffer.concat(heads.reverse()));
};

const PEMS: Texts = {
  "public keys": run(PUBLIC),
  "private keys": run(PRIVATE),
  "blocks without content": run("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
  "first lines": run("-----BEGIN CERTIFICATE-----\n"),
  "first lines of keys": run("-----BEGIN PRIVATE KEY-----\n"),
  "last lines": run("-----END CERTIFICATE-----\n"),
  dashes: run("-"),
  "dashes in a block": run("-", {
    before: "-----BEGIN CERTIFICATE-----\n",
    after: "\n-----END CERTIFICATE-----\n",
  }),
  "letters in a block": run("A", {
    before: "-----BEGIN CERTIFICATE-----\n",
    after: "\n-----END CERTIFICATE-----\n",
  }),
  "line ends in a block": run("\r\n", {
    before: "-----BEGIN CERTIFICATE-----\n",
    after: "-----END CERTIFICATE-----\n",
  }),
  "sequences in sequences": deepDer,
  "a long integer": (size) => pem(der(0x30, der(0x30, der(2, Buffer.alloc((size * 3) / 4, 0x7f))))),
  "a long OID": (size) => pem(der(0x30, der(0x30, der(6, Buffer.alloc((size * 3) / 4, 0x81))))),
  "an OID of many parts": (size) => pem(der(0x30, der(0x30, der(6, Buffer.alloc((size * 3) / 4, 0x01))))),
  "sequences without content": (size) => pem(der(0x30, Buffer.alloc((size * 3) / 4, Buffer.from([0x30, 0])))),
  "an RSA key with a long modulus": (size) =>
    pem(
      der(
        0x30,
        Buffer.concat([
          der(
            0x30,
            Buffer.concat([der(6, Buffer.from("2a864886f70d010101", "hex")), der(5, Buffer.alloc(0))]),
          ),
          der(
            3,
            Buffer.concat([
              Buffer.from([0]),
              der(
                0x30,
                Buffer.concat([
                  der(2, Buffer.alloc(Math.max(1, size / 2), 0x7f)),
                  der(2, Buffer.alloc(Math.max(1, size / 4), 0x7f)),
                ]),
              ),
            ]),
          ),
        ]),
      ),
      "PUBLIC KEY",
    ),
};

const file = (name: string) =>
  writeTar([{ name, mode: 0o600, bytes: new Uint8Array(0) }], new Date(0)).slice(0, 512);
const TARS: Texts = {
  "empty files": (size) =>
    Buffer.concat(Array.from({ length: Math.ceil(size / 512) }, (_, i) => file(`f${i}`))),
  "files of one name": (size) => Buffer.alloc(512 * Math.ceil(size / 512), file("a")),
  zeros: (size) => Buffer.alloc(size),
  blanks: run(" "),
};

const AGE = "age-encryption.org/v1\n";
const IDENTITY = "AGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU";
const AGES: Texts = {
  stanzas: run("-> X 0\n\n", { before: AGE, after: "--- AAAA\n" }),
  "stanzas for keys": run(`-> X25519 ${"A".repeat(43)}\n${"A".repeat(43)}\n`, {
    before: AGE,
    after: `--- ${"A".repeat(43)}\n`,
  }),
  "words of a stanza": run("a ", { before: `${AGE}-> `, after: "b\n\n---" }),
  "lines of a stanza": run(`${"A".repeat(64)}\n`, { before: `${AGE}-> X\n` }),
  "a header without an end": run("a", { before: AGE }),
  armour: run(`${"A".repeat(64)}\n`, { before: "-----BEGIN AGE ENCRYPTED FILE-----\n" }),
};

const UNITS: Texts = {
  assignments: numbered((i) => `A${i}=b\n`),
  words: run("a ", { before: "ExecStart=" }),
  quotes: run('"', { before: "ExecStart=" }),
  "quotes with blanks": run('" ', { before: "ExecStart=" }),
  backslashes: run("\\", { before: "ExecStart=" }),
  "backslashes in quotes": run("\\", { before: 'ExecStart="' }),
  "lines that go on": run("a \\\n", { before: "ExecStart=" }),
  "one variable, and many that name it": (size) =>
    `Environment=A=${"x".repeat(size / 2)}\nExecStart=/usr/bin/kubelet ${`\${A}`.repeat(size / 8)}\n`,
  variables: numbered((i) => `Environment=A${i}=b\n`, { after: "ExecStart=/usr/bin/kubelet $A1\n" }),
  "variables that are taken back": run("Environment=\n"),
  files: run("EnvironmentFile=-/none\n"),
  comments: run("#a\n"),
  sections: run("[Service]\n"),
};
// biome-ignore-end format: tables

const text = (bytes: Buffer) => bytes.toString("latin1");

/** Each call has a text of its own: what was parsed before is remembered. */
let turn = 0;
const anew = (bytes: Buffer) => `#${turn++}\n${text(bytes)}`;

export const PARSERS: readonly Priced[] = [
  { parser: "YAML", parse: (bytes) => readYaml(anew(bytes)), texts: YAML },
  {
    parser: "YAML that is then written as JSON",
    parse: (bytes) => JSON.stringify(readYaml(anew(bytes))),
    texts: YAML,
  },
  { parser: "the first document of a YAML", parse: (bytes) => readFirstYaml(anew(bytes)), texts: DOCUMENTS },
  { parser: "kubeconfigs", parse: (bytes) => parseKubeconfig(anew(bytes), "/a"), texts: KUBECONFIGS },
  { parser: "stored objects", parse: decodeObject, texts: OBJECTS },
  {
    parser: "values that are whole",
    parse: (bytes) => lookAtValue("/registry/pods/shop/web", bytes),
    texts: { ...OBJECTS, ...CBORS },
  },
  { parser: "CBOR", parse: isCborMap, texts: CBORS },
  { parser: "certificates", parse: (bytes) => infosIn(text(bytes)), texts: PEMS },
  { parser: "public keys", parse: (bytes) => publicKeysIn(text(bytes)), texts: PEMS },
  { parser: "trusted keys", parse: (bytes) => trustedKeys(anew(bytes)), texts: PEMS },
  { parser: "private keys", parse: (bytes) => privateKeysIn(text(bytes)), texts: PEMS },
  { parser: "tar", parse: readTar, texts: TARS },
  { parser: "age", parse: (bytes) => open(bytes, { identityFile: IDENTITY }), texts: AGES },
  { parser: "units", parse: (bytes) => readUnit(text(bytes)), texts: UNITS },
];
