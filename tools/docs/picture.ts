/** Lines of a terminal as a picture: SVG with text that can be searched and copied. */

import { asHtml } from "../../shared/plain.ts";
import { wrapped } from "../../shared/screen-width.ts";

const [LETTER, LINE, MARGIN] = [7.3, 17, 14];
/** Longer lines are wrapped. */
const COLUMNS = 110;

/** A title for those who hear it, and the lines. */
export function pictureOf(title: string, lines: readonly string[]): string {
  const rows = lines.flatMap(inColumns);
  const width = Math.ceil(COLUMNS * LETTER + 2 * MARGIN);
  const height = rows.length * LINE + 2 * MARGIN;
  const texts = rows.map((row, index) => {
    const y = MARGIN + 12 + index * LINE;
    return `<text x="${MARGIN}" y="${y}" xml:space="preserve">${asHtml(row)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${asHtml(title)}">`,
    `<title>${asHtml(title)}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#1b1f24"/>`,
    `<g fill="#e6e9ed" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">`,
    ...texts,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/** The rest of a long line is indented below the words of its line. */
function inColumns(line: string): string[] {
  return wrapped(line, /^ *(?:\w+ {2,})?/.exec(line)![0].length, COLUMNS);
}
