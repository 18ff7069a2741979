// The agent's libbpf: objects, programs, maps, links, ring buffers. This is the door; the modules behind it validate and
// word, the addon behind addon.ts owns the handles. Called by loader.ts and, for reading, by probes.
//
// Ownership: closing an object detaches its links and stops its ring readers; closing twice is safe; using what is
// closed throws KernelError with code 'MISUSE'. A link needs no reference: what is attached stays attached until it or
// its object is closed, or the process or worker ends, however it ends.
export { KernelError } from './addon.ts';
export { BpfMap, type MapContents, type MapDescription, type ReadAllOptions, type SumWidth } from './map.ts';
export { BpfObject, type OpenOptions, openObject, type VariableValue } from './object.ts';
export {
  BpfLink,
  BpfProgram,
  type NetnsOption,
  type ProgramDescription,
  type ProgramInfo,
  type TestRunOptions,
  type TestRunResult,
  type UprobeMultiOptions,
  type UprobeOptions,
} from './program.ts';
export { forEachRecord, RECORD_HEADER_BYTES, RingBuffer, type RingBufferOptions } from './ring.ts';
export {
  BpfStats,
  enableBpfStats,
  fileHandle,
  hasHelper,
  hasMapType,
  hasProgramType,
  kernelBtf,
  libbpfVersion,
  type NetworkInterfaces,
  networkInterfaces,
  possibleCpus,
  readFiles,
  type TryResult,
  tryKprobe,
  tryProgram,
} from './system.ts';
