/**
 * A key of etcd is any bytes. Inside the readers it is these bytes as latin1 text, so that the order of texts is the order
 * of bytes. Scripts have it as text: UTF-8, with each byte that is no UTF-8 as a lone surrogate, U+DC80 to U+DCFF, as
 * PEP 383 does it. So two keys never have one text, and each text leads back to its key.
 */
import { isUtf8 } from "node:buffer";

const ESCAPE = 0xdc00;
const ESCAPED = /([\udc80-\udcff])/u;

export function toRaw(key: string): string {
  return key
    .split(ESCAPED)
    .map((part) =>
      ESCAPED.test(part)
        ? String.fromCharCode(part.charCodeAt(0) - ESCAPE)
        : Buffer.from(part, "utf8").toString("latin1"),
    )
    .join("");
}

export function fromRaw(key: string): string {
  const bytes = Buffer.from(key, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : withEscapes(bytes);
}

function withEscapes(bytes: Buffer): string {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const character = [1, 2, 3, 4]
      .map((length) => bytes.subarray(at, at + length))
      .find((part) => isUtf8(part));
    text += character?.toString("utf8") ?? String.fromCharCode(ESCAPE + bytes[at]!);
    at += character?.length ?? 1;
  }
  return text;
}
