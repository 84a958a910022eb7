/**
 * The documents of a YAML text that anybody may have written, at a price that grows with its size alone. Nothing is nested
 * deeper than any object of Kubernetes is, aliases stand for a bounded number of values, and no key is a list or a mapping:
 * Kubernetes refuses these keys, and the library would write out each again and again. The library prints nothing.
 */
import {
  Composer,
  type Document,
  LineCounter,
  type ParsedNode,
  type ParseOptions,
  Parser,
  type SchemaOptions,
  YAMLParseError,
} from "yaml";
import { DEEPEST, tooDeepAt, writeOutAliases } from "./yaml-aliases.ts";

/** Looks how deep it is before each token: what is nested is made to objects only at the end of a document. */
class ShallowParser extends Parser {
  override *next(source: string) {
    if (this.stack.length > DEEPEST + 1) throw tooDeepAt(this.offset);
    yield* super.next(source);
  }
}

type YamlDocument = Document.Parsed<ParsedNode>;

/**
 * In the text's order; one at least. Errors: YAMLParseError, which says line and column, when it comes to the document that
 * has it.
 */
export function* documentsOf(
  text: string,
  options: ParseOptions & SchemaOptions,
): Generator<YamlDocument, void> {
  const lines = new LineCounter();
  const parser = new ShallowParser(lines.addNewLine);
  const composer = new Composer<ParsedNode>({ ...options, prettyErrors: false, logLevel: "error" });
  try {
    for (const document of composer.compose(parser.parse(text), true, text.length)) {
      if (document.errors[0]) throw document.errors[0];
      writeOutAliases(document);
      yield document;
    }
  } catch (err) {
    if (err instanceof YAMLParseError) addPlace(err, lines);
    throw err;
  }
}

/** To the first error alone: a text can have one a letter. */
function addPlace(error: YAMLParseError, lines: LineCounter) {
  const { line, col } = lines.linePos(error.pos[0]);
  error.message += ` at line ${line}, column ${col}`;
}
