// What the image contains that others wrote, and under which licences: the npm packages that esbuild bundled, what is
// linked into the native addon, and Node itself. Called by scripts/notices.ts.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSources } from './vendored.ts';

export type Component = {
  name: string;
  version: string;
  /** SPDX. */
  licence: string;
  /** Where in the image it is, and what else is to be said. */
  place: string;
  /** The texts that its licence wants to be passed on. */
  texts: string[];
};

/** The part of esbuild's metafile that is read here. */
type Metafile = {
  outputs: Record<string, { inputs: Record<string, { bytesInOutput: number }> }>;
};

const LICENCE_FILE = /^(un)?licen[cs]e|^copying|^notice/i;

/** Folders of the packages (node_modules/...) of which a byte got into a bundle, sorted. */
export function bundledFolders(metafile: Metafile): string[] {
  const folders = new Set<string>();
  for (const { inputs } of Object.values(metafile.outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const folder = packageFolder(path);
      if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
    }
  }
  return [...folders].sort();
}

/** The folder of the innermost package that a file belongs to. */
export function packageFolder(path: string): string | undefined {
  return /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
}

/** An npm package as a component. Throws where its licence or the text of it is missing: a person has to look. */
export function packageComponent(folder: string, place: string): Component {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
  const { name, version, license } = manifest;
  const files = readdirSync(folder).filter((file) => LICENCE_FILE.test(file));
  const texts = files.sort().map((file) => readFileSync(join(folder, file), 'utf8'));
  if (typeof license !== 'string' || /^(see |unlicensed$)/i.test(license))
    throw new Error(`${folder} names no licence: ${String(license)}`);
  if (texts.length === 0) throw new Error(`${folder} (${license}) brings no text of its licence`);
  return { name: String(name), version: String(version), licence: license, place, texts };
}

/** What is linked into the addon. */
export function nativeComponents(root: string): Component[] {
  const vendor = join(root, 'native/vendor');
  const { libbpf, elfutils } = readSources(vendor).trees;
  if (libbpf === undefined || elfutils === undefined) throw new Error('native/vendor has other trees');
  const text = (path: string): string => readFileSync(join(root, 'native', path), 'utf8');
  const place = 'build/native/knp.node, linked statically';
  return [
    {
      name: 'libbpf',
      version: libbpf.release,
      licence: libbpf.licence,
      place: `${place}; its headers are compiled into build/bpf. Used under BSD-2-Clause`,
      texts: [text('vendor/libbpf/LICENSE'), text('vendor/libbpf/LICENSE.BSD-2-Clause')],
    },
    {
      name: 'elfutils (libelf)',
      version: elfutils.release,
      licence: elfutils.licence,
      place: `${place}. Used under LGPL-3.0-or-later: relink/README says how to link another one`,
      texts: [text('vendor/elfutils/COPYING-LGPLV3'), text('licences/GPL-3.0')],
    },
    { name: 'zlib', version: zlibVersion(), licence: 'Zlib', place, texts: [text('licences/Zlib')] },
    {
      name: 'libstdc++ (GCC)',
      version: execFileSync(process.env.CXX ?? 'g++', ['-dumpfullversion'], { encoding: 'utf8' }).trim(),
      licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
      place,
      texts: [text('licences/GCC-exception-3.1'), text('licences/GPL-3.0')],
    },
  ];
}

/** Of the distribution's zlib, which the linker takes. */
function zlibVersion(): string {
  const options = { input: '#include <zlib.h>\nknp ZLIB_VERSION\n', encoding: 'utf8' } as const;
  const output = execFileSync(process.env.CC ?? 'gcc', ['-E', '-P', '-'], options);
  const version = /^knp "(.+)"$/m.exec(output)?.[1];
  if (version === undefined) throw new Error('zlib.h does not say which version it is');
  return version;
}

const RULE = '='.repeat(100);

/** The whole file. A text that many components share (Apache-2.0) is printed once. */
export function render(components: readonly Component[]): string {
  const texts = [...new Set(components.flatMap(({ texts }) => texts.map(tidy)))];
  const numbers = (component: Component): string =>
    component.texts.map((text) => `[${texts.indexOf(tidy(text)) + 1}]`).join(' ');
  // The same version of a package may lie in several folders.
  const entries = new Set(
    components.map((component) => {
      const { name, version, licence, place } = component;
      return `${name} ${version}\n  licence ${licence}, text ${numbers(component)}\n  in ${place}\n`;
    }),
  );
  return [
    'THIRD-PARTY NOTICES\n',
    'KubeNetProbe is licensed under Apache-2.0 (LICENSE). It contains the works of others that are listed here; the',
    "texts of their licences follow below. Debian's packages of the base image bring theirs in /usr/share/doc.\n",
    [...entries].join('\n'),
    ...texts.map((text, index) => `${RULE}\n[${index + 1}]\n${RULE}\n\n${text}\n`),
  ].join('\n');
}

const tidy = (text: string): string => text.replaceAll('\r\n', '\n').replace(/^\n+|\s+$/g, '');
