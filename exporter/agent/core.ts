// The seam between the probes and what they share: the edge table and its names. As yet the TCP probe's object makes
// them, and its probe hands them over; everything else asks here and needs not know.
import { ProbeError } from '../kernel/loader.ts';
import type { Core } from '../probes/probe.ts';

export class CoreSeam {
  #core: Core | undefined;

  provide(core: Core): void {
    this.#core = core;
  }

  /** Undefined as long as nothing has made it. */
  get known(): Core | undefined {
    return this.#core;
  }

  /** @throws ProbeError where nothing has made it. */
  get core(): Core {
    if (this.#core === undefined)
      throw new ProbeError('It needs the edge table, which is not there.', [], '');
    return this.#core;
  }
}
