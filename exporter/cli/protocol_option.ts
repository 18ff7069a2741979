// The option `--protocol` of the commands that show requests.
import { Option } from 'commander';
import { REQUEST_PROTOCOLS } from '../probes/descriptors.ts';

export function protocolOption(description: string): Option {
  return new Option('--protocol <name>', description).choices(REQUEST_PROTOCOLS.map(({ name }) => name));
}
