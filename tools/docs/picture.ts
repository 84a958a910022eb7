/** Lines of a terminal as a picture: SVG with text that can be searched and copied. */

const [LETTER, LINE, MARGIN] = [7.3, 17, 14];
/** Longer lines are wrapped. */
const COLUMNS = 110;

/** A title for those who hear it, and the lines. */
export function pictureOf(title: string, lines: readonly string[]): string {
  const rows = lines.flatMap(wrapped);
  const width = Math.ceil(COLUMNS * LETTER + 2 * MARGIN);
  const height = rows.length * LINE + 2 * MARGIN;
  const texts = rows.map((row, index) => {
    const y = MARGIN + 12 + index * LINE;
    return `<text x="${MARGIN}" y="${y}" xml:space="preserve">${escaped(row)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#1b1f24"/>`,
    `<g fill="#e6e9ed" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">`,
    ...texts,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/** Between words; what continues is indented below the words of its line. */
function wrapped(line: string): string[] {
  if (line.length <= COLUMNS) return [line];
  const cut = line.lastIndexOf(" ", COLUMNS);
  const indent = " ".repeat(/^ *(?:\w+ {2,})?/.exec(line)![0].length);
  return [line.slice(0, cut), ...wrapped(indent + line.slice(cut + 1))];
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
