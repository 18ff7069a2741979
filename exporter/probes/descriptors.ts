// What the registered probes say about themselves to those who show figures: protocols whose requests they count,
// transports whose traffic. Data only; read by the commands, the dashboards and the rules.
import type { RequestProtocol } from '../telemetry/requests/protocol.ts';
import type { TransportTraffic } from '../telemetry/traffic.ts';
import { PROBES } from './definitions.ts';

export const REQUEST_PROTOCOLS: readonly RequestProtocol[] = PROBES.flatMap(({ requests = [] }) => requests);
export const TRANSPORTS: readonly TransportTraffic[] = PROBES.flatMap(({ traffic = [] }) => traffic);
