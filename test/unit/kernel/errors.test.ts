// What an error says in its one line, from logs as kernels and libbpf write them.
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../exporter/kernel/native.ts';

const load = (...verifier: string[]) => `libbpf: prog 'p': BPF program load failed: -EACCES
libbpf: prog 'p': -- BEGIN PROG LOAD LOG --
6: (85) call bpf_map_lookup_elem#1    ; R0=map_value_or_null(id=1,map=shared,ks=4,vs=8)
7: (79) r0 = *(u64 *)(r0 +0)
${verifier.join('\n')}
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'p': failed to load: -EACCES
libbpf: failed to load object 'o'
`;

describe('the reason', () => {
  const verdict = "R0 invalid mem access 'map_value_or_null'";
  const cases: [string, string, string][] = [
    ['of the verifier', load(verdict), verdict],
    [
      'of the verifier of Linux 7, before its explanation',
      load(
        verdict,
        '',
        'Verification failed: Register Type Safety',
        '',
        'Suggestion:',
        '  Add a NULL check.',
        '',
      ),
      verdict,
    ],
    [
      'of a loop',
      load('infinite loop detected at insn 9', 'cur state: R0=1', 'old state: R0=1'),
      'infinite loop detected at insn 9',
    ],
    [
      'of libbpf, where the verifier was not asked',
      "libbpf: prog 'p': failed to find kernel BTF type ID of 'x': -ESRCH\nlibbpf: failed to load object 'o'\n",
      "prog 'p': failed to find kernel BTF type ID of 'x': -ESRCH",
    ],
    ['of an empty log', '', ''],
  ];
  for (const [name, log, reason] of cases) {
    test(name, () => {
      const error = new KernelError('cannot load', 13, log);
      expect(error.reason).toBe(reason);
      expect(error.message).toBe(`cannot load: permission denied (EACCES)${reason && `: ${reason}`}`);
      expect(error.log).toBe(log);
    });
  }
});

test('codes: of the system, of the kernel alone, unknown, and misuse', () => {
  const seen = [1, 524, 9999, 0].map((errno) => new KernelError('x', errno)).map((e) => [e.code, e.message]);
  expect(seen).toEqual([
    ['EPERM', 'x: operation not permitted (EPERM)'],
    ['ENOTSUPP', 'x: not supported by this kernel (ENOTSUPP)'],
    ['E9999', 'x: error 9999 (E9999)'],
    ['MISUSE', 'x'],
  ]);
});
