/** Distinguished Encoding Rules (ITU-T X.690 §10), as far as certificates need them: pieces are written, and cut out whole. */
import { Fail } from "../fail.ts";

/** Tag, length in as few bytes as possible, content (§10.1). */
export function der(tag: number, ...content: Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  const head = length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), ...content]);
}

/** The pieces inside of a piece, each with its head. Errors: Fail where they do not fill it. */
export function insideOf(whole: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let rest = contentOf(whole); rest.length > 0; rest = rest.subarray(pieces.at(-1)!.length)) {
    const [head, length] = sizeOf(rest);
    if (rest.length < head + length)
      throw new Fail("A certificate's encoding is cut off", { hint: "see what it is with: openssl asn1parse -in FILE" });
    pieces.push(rest.subarray(0, head + length));
  }
  return pieces;
}

/** Without its head. */
export function contentOf(whole: Buffer): Buffer {
  return whole.subarray(sizeOf(whole)[0]);
}

/** RFC 7468 §2. */
export function pemOf(label: string, bytes: Buffer): string {
  return `-----BEGIN ${label}-----\n${bytes.toString("base64").replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}

/** In bytes, of the head and of the content. */
function sizeOf(bytes: Buffer): [head: number, content: number] {
  const first = bytes[1]!;
  const more = first < 0x80 ? 0 : first & 0x7f;
  return [2 + more, more === 0 ? first : bytes.readUIntBE(2, more)];
}
