// Says what is wrong with a configuration: turns zod's issues into one line each, with the place, what was
// found, what is allowed and what was probably meant. Called by load.ts.
import type * as z from 'zod';
import { allowedText, formatPath, nearest, nodeAt, printable, quoted, settings } from './settings.ts';

/** One thing wrong. `text` is one line and never holds a secret. */
export interface Problem {
  /** `agent.yaml:3:10`, `KNP_LISTEN`, `--set` */
  place: string;
  text: string;
}

/** One line per problem, as shown to a person. */
export function formatProblems(problems: readonly Problem[]): string {
  return problems.map(({ place, text }) => `${place}: ${text}`).join('\n');
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

function isSecret(path: readonly PropertyKey[]): boolean {
  return path.some((_, index) => nodeAt(path.slice(0, index + 1))?.['x-secret'] === true);
}

/** Where a key that does not exist here may have been meant to go. */
export function suggestion(parent: readonly PropertyKey[], key: string): string | undefined {
  const siblings = Object.keys(nodeAt(parent)?.properties ?? {});
  const near = nearest(key, siblings);
  if (near !== undefined) return near;
  const elsewhere = new Set<string>();
  for (const { keys } of settings()) {
    const index = keys.lastIndexOf(key);
    if (index >= 0) elsewhere.add(keys.slice(0, index + 1).join('.'));
  }
  return elsewhere.size === 1 ? [...elsewhere][0] : undefined;
}

function unknownKey(parent: readonly PropertyKey[], key: string): string {
  const meant = suggestion(parent, key);
  const hint = meant === undefined ? '' : ` did you mean ${meant}?`;
  const known = Object.keys(nodeAt(parent)?.properties ?? {}).join(', ');
  return `${formatPath([...parent, key])}: no such setting;${hint} allowed here: ${known}`;
}

function wrongValue(path: readonly PropertyKey[], root: unknown): string {
  const node = nodeAt(path);
  const allowed = node === undefined ? '' : `; allowed: ${allowedText(node)}`;
  const value = valueAt(root, path);
  if (path.length === 0) return `found ${quoted(value)}${allowed}`;
  if (value === undefined) return `${formatPath(path)}: missing${allowed}`;
  if (isSecret(path)) return `${formatPath(path)}: wrong value (not shown)${allowed}`;
  const meant =
    typeof value === 'string' && node?.enum !== undefined ? nearest(value, node.enum.map(String)) : undefined;
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
  return `${formatPath(path)}: found ${quoted(value)}${allowed}${hint}`;
}

/** Where a value or, for an unknown key, the key itself stands. */
export type Locate = (path: readonly PropertyKey[], key?: string) => string;

/** One problem for each thing that zod found wrong with `root`. */
export function problemsOf(error: z.ZodError, root: unknown, locate: Locate): Problem[] {
  const problems: Problem[] = [];
  const seen = new Set<string>();
  const add = (problem: Problem) => {
    // A value may fail several checks at once (a text too long and of the wrong form); once is enough.
    const id = `${problem.place}\n${problem.text}`;
    if (!seen.has(id)) problems.push(problem);
    seen.add(id);
  };
  for (const issue of error.issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        add({ place: locate(issue.path, key), text: unknownKey(issue.path, key) });
      }
    } else if (issue.code === 'invalid_key') {
      const key = String(issue.path.at(-1));
      const node = nodeAt(issue.path);
      const allowed = node === undefined ? '' : `; allowed: ${allowedText(node)}`;
      const parent = issue.path.slice(0, -1);
      add({
        place: locate(parent, key),
        text: `${formatPath(parent)}: found the key ${printable(key)}${allowed}`,
      });
    } else {
      add({ place: locate(issue.path), text: wrongValue(issue.path, root) });
    }
  }
  return problems;
}
