// The part of .editorconfig that can be checked without an editor. Used by test/unit/scripts/editorconfig.test.ts.
import { matchesGlob } from 'node:path';

export type Settings = Readonly<Record<string, string>>;
type Section = { glob: string; settings: Settings };

export function parseEditorConfig(text: string): Section[] {
  const sections: { glob: string; settings: Record<string, string> }[] = [];
  for (const line of text.split('\n')) {
    const glob = /^\[(.+)\]$/.exec(line)?.[1];
    if (glob !== undefined) sections.push({ glob, settings: {} });
    const [, key, value] = /^(\w+)\s*=\s*(.+)$/.exec(line) ?? [];
    const section = sections.at(-1);
    if (section !== undefined && key !== undefined && value !== undefined) section.settings[key] = value;
  }
  return sections;
}

/** What holds for a file: a later section wins; a glob without a slash holds in every folder. */
export function settingsFor(sections: readonly Section[], path: string): Settings {
  const holds = ({ glob }: Section): boolean => matchesGlob(path, glob.includes('/') ? glob : `**/${glob}`);
  return Object.assign({}, ...sections.filter(holds).map(({ settings }) => settings));
}

/** One sentence for each setting that a text does not keep. */
export function violations(text: string, settings: Settings): string[] {
  const found: string[] = [];
  const lines = text.split('\n');
  const line = (pattern: RegExp, unlessContinued = false): number =>
    lines.findIndex((each, at) => pattern.test(each) && !(unlessContinued && lines[at - 1]?.endsWith('\\'))) +
    1;
  const check = (setting: string, value: string, at: number, what: string): void => {
    if (settings[setting] === value && at > 0) found.push(`line ${at} ${what}`);
  };
  check('end_of_line', 'lf', line(/\r$/), 'ends with a carriage return');
  check('trim_trailing_whitespace', 'true', line(/[ \t]$/), 'ends with white space');
  check('indent_style', 'space', line(/^ *\t/), 'is indented by a tab');
  // One space may be the left margin of a comment; what continues a line is aligned as it looks best.
  check('indent_style', 'tab', line(/^ {2,}\S/, true), 'is indented by spaces');
  if (settings.insert_final_newline === 'true' && text !== '' && !text.endsWith('\n'))
    found.push('the last line does not end');
  return found;
}
