/**
 * Parts of a self-contained page: no script, font or picture from elsewhere; light or dark like the reader's
 * system.
 */
import { stripVTControlCharacters } from "node:util";
import { asHtml } from "../plain.ts";
import style from "./style.css" with { type: "text" };

/** `kicker` and `lead` are small lines above and below the heading; `body` is HTML, the others are text. */
interface Page {
  title: string;
  good: boolean;
  kicker: string;
  heading: string;
  lead: string;
  body: readonly string[];
  footer: string;
}

export function htmlPage({ title, good, kicker, heading, lead, body, footer }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${asHtml(title)}</title>
<style>
${style}</style>
</head>
<body>
<main>
<header><p class="kicker">${asHtml(kicker)}</p>
<h1><span class="badge ${good ? "good" : "bad"}">${good ? "✓" : "✗"}</span> ${asHtml(heading)}</h1>
<p class="lead">${asHtml(lead)}</p></header>
${body.filter(Boolean).join("\n")}
<footer>${asHtml(footer)}</footer>
</main>
</body>
</html>
`;
}

export function card(title: string, body: string) {
  return `<section class="card"><h2>${asHtml(title)}</h2>${body}</section>`;
}

/** A wide drawing or table, which the keyboard scrolls, too. `name`: for those who hear the page. */
export function scrolled(body: string, name: string) {
  return `<div class="scroll" tabindex="0" role="group" aria-label="${asHtml(name)}">${body}</div>`;
}

export function bullets(items: readonly string[]) {
  return `<ul>${items.map((item) => `<li>${asHtml(item)}</li>`).join("")}</ul>`;
}

/**
 * Rows of text below a head, which may be empty. `kind`: a class; "figures" keeps the fourth column and all
 * after it on one line.
 */
export function table(head: readonly string[], rows: readonly (readonly string[])[], kind = "") {
  const cells = (row: readonly string[], kind: "th" | "td") =>
    row.map((cell) => `<${kind}>${asHtml(cell)}</${kind}>`).join("");
  const top = head.length > 0 ? `<thead><tr>${cells(head, "th")}</tr></thead>` : "";
  return scrolled(
    `<table class="${asHtml(kind)}">${top}<tbody>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</tbody></table>`,
    head.length > 0 ? `Table: ${head.join(", ")}` : "Table",
  );
}

interface MarkedRow {
  mark: "✓" | "‼" | "✗";
  name: string;
  detail: string;
  /** A line to type, behind the detail. */
  command?: string | undefined;
}

export function markedRows(rows: readonly MarkedRow[]) {
  const row = ({ mark, name, detail, command }: MarkedRow) =>
    `<tr class="${mark === "✗" ? "bad" : mark === "‼" ? "warn" : ""}"><td class="mark">${mark}</td><td>${asHtml(name)}</td><td class="soft">${asHtml(detail)}${command ? ` <code>${asHtml(command)}</code>` : ""}</td></tr>`;
  return `<table class="checks"><tbody>${rows.map(row).join("")}</tbody></table>`;
}

export function transcript({
  when,
  node,
  command,
  state,
  output,
  ok,
}: Record<"when" | "node" | "command" | "state" | "output", string> & { ok: boolean }) {
  const text = stripVTControlCharacters(output).trimEnd();
  return `<details class="${ok ? "" : "bad"}"><summary><span class="soft">${asHtml(when)}</span> <b>${asHtml(node)}#</b> <code>${asHtml(command)}</code> <span class="soft">${asHtml(state)}</span></summary><pre>${asHtml(text || "(nothing)")}</pre></details>`;
}
