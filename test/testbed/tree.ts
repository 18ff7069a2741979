// A copy of the repository's own files in a temporary folder, which shares the packages and the built addon with this
// one, and what a page of the documents adds to it. For tests that follow such a page literally.
import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ownFiles, ROOT } from '../../scripts/architecture/files.ts';

/** A whole file that a page shows, or lines that it adds to one. */
export interface PageFile {
  readonly path: string;
  readonly text: string;
  readonly append: boolean;
}

/** Fenced blocks of a section whose info string names a path: ```ts exporter/a.ts, or … append. */
export function pageFiles(page: string, heading: string): PageFile[] {
  const start = page.indexOf(`\n## ${heading}\n`);
  if (start < 0) throw new Error(`the page has no section "${heading}"`);
  const end = page.indexOf('\n## ', start + 1);
  const section = page.slice(start, end < 0 ? undefined : end);
  return [...section.matchAll(/^```\w+ (\S+\.\w+)( append)?\n([\s\S]*?)^```$/gm)].map(
    ([, path = '', append, text = '']) => ({ path, text, append: append !== undefined }),
  );
}

export class Tree {
  readonly root = mkdtempSync(join(tmpdir(), 'knpt-tree-'));

  constructor() {
    for (const path of ownFiles()) this.#copy(path);
    // What lists the repository's own files asks git.
    execFileSync('git', ['init', '--quiet'], { cwd: this.root });
    for (const shared of ['node_modules', 'build/native', 'build/tools', 'native/vendor']) this.#link(shared);
  }

  #copy(path: string): void {
    cpSync(join(ROOT, path), join(this.root, path), { verbatimSymlinks: true, recursive: true });
  }

  #link(path: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    rmSync(join(this.root, path), { recursive: true, force: true });
    symlinkSync(join(ROOT, path), join(this.root, path));
  }

  /** Creates the files, and appends where the page says so; throws where one that it creates is there. */
  add(files: readonly PageFile[]): void {
    for (const { path, text, append } of files) {
      const file = join(this.root, path);
      mkdirSync(dirname(file), { recursive: true });
      if (append) appendFileSync(file, text);
      else writeFileSync(file, text, { flag: 'wx' });
    }
  }

  /** Runs a program in the tree; throws with what it wrote when it fails. */
  run(program: string, ...args: string[]): string {
    const { NODE_OPTIONS: _, ...env } = process.env;
    try {
      return execFileSync(program, args, {
        cwd: this.root,
        env,
        encoding: 'utf8',
        stdio: 'pipe',
        maxBuffer: 1 << 26,
      });
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      throw new Error(`${program} ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`);
    }
  }

  /** Runs the agent's command line from the sources. */
  kubenetprobe(...args: string[]): string {
    return this.run(process.execPath, 'exporter/cli/main.ts', ...args);
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
