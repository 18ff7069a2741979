// Reads YAML for the configuration and remembers where each value stands. The parser is imported only when
// there is a file or a value that is not JSON, since it costs memory. Called by load.ts.
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { Locate, Problem } from './problems.ts';
import { nodeAt } from './settings.ts';

export type YamlResult =
  | { ok: true; tree: unknown; locate: Locate }
  | { ok: false; problems: readonly Problem[] };

/** Parses one configuration file. `file` is only used to name the place. */
export function readYaml(file: string, text: string): YamlResult {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: '1.2' });
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const flaws = [...document.errors, ...document.warnings];
  if (flaws.length > 0) {
    return {
      ok: false,
      problems: flaws.map(({ pos, message }) => ({
        place: place(pos[0]),
        text: `not valid YAML: ${message.split('\n')[0]}`,
      })),
    };
  }
  let tree: unknown;
  try {
    tree = document.toJS();
  } catch (error) {
    // An alias without its anchor, or aliases that multiply without end.
    const [reason] = String((error as Error).message).split('\n');
    return { ok: false, problems: [{ place: place(0), text: `not valid YAML: ${reason}` }] };
  }
  const locate: Locate = (path, key) => place(offsetOf(document, path, key));
  return { ok: true, tree: emptySections(tree, []), locate };
}

/** Parses a value given as text. Undefined when it is not YAML. */
export function readYamlValue(text: string): { value: unknown } | undefined {
  const document = parseDocument(text, { prettyErrors: false, version: '1.2' });
  if (document.errors.length + document.warnings.length > 0) return undefined;
  try {
    return { value: document.toJS() };
  } catch {
    return undefined;
  }
}

/** A section whose settings are all commented out reads as null; it means an empty section. */
function emptySections(value: unknown, path: readonly string[]): unknown {
  const node = nodeAt(path);
  if (node?.properties === undefined) return value;
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, emptySections(child, [...path, key])]),
  );
}

function offsetOf(document: Document, path: readonly PropertyKey[], key: string | undefined): number {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  const steps = key === undefined ? path : [...path, key];
  for (const [index, step] of steps.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => (isScalar(item.key) ? String(item.key.value) : '') === String(step),
      );
      // An unknown key is shown itself, a wrong value where it begins.
      const wanted = key !== undefined && index === steps.length - 1 ? pair?.key : (pair?.value ?? pair?.key);
      next = wanted;
    } else if (isSeq(node) && typeof step === 'number') {
      next = node.items[step];
    }
    if (!isNode(next)) return offset;
    offset = next.range?.[0] ?? offset;
    node = next;
  }
  return offset;
}
