// Settings of the TCP probe, `probes.tcp`. Data only: part of the configuration's schema.
import { enabled, probeDetail, section } from '../../config/values.ts';

export const TCP_SETTINGS = section(
  'TCP: bytes, connections, failures, round-trip times, retransmits, listen queues.',
  {
    enabled: enabled(true),
    detail: probeDetail(),
  },
);
