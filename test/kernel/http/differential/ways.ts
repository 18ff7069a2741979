// Every provider that this kernel offers, and what stands for older kernels.
import { type Feature, KernelFeatures } from '../../../../exporter/kernel/features.ts';
import { missingFor, PROVIDERS, Probe } from '../harness.ts';

/** As before Linux 6.16, where another hook keeps the beginning of a send. */
class OlderKernel extends KernelFeatures {
  override missing(feature: Feature): string | undefined {
    return feature === 'tracepoint:tcp_sendmsg_locked' ? 'hidden by the test' : super.missing(feature);
  }
}

const newer = new KernelFeatures().missing('tracepoint:tcp_sendmsg_locked') === undefined;

export const WAYS = PROVIDERS.flatMap((provider) => [
  { name: provider, provider, missing: missingFor(provider) },
  ...(newer && provider === 'tracepoint'
    ? [
        {
          name: `${provider} before Linux 6.16`,
          provider,
          missing: missingFor(provider),
          features: new OlderKernel(),
        },
      ]
    : []),
]);

export function probeOf({ provider, features }: (typeof WAYS)[number]): Probe {
  return new Probe({ http: { provider }, ...(features && { features }) });
}
