// What the probes say about themselves to those who show figures: protocols whose requests they count, transports whose
// traffic. Imports data only, no probe's code; read by the commands, the dashboards and the rules.
import type { RequestProtocol } from '../telemetry/requests/protocol.ts';
import type { TransportTraffic } from '../telemetry/traffic.ts';
import { HTTP_REQUESTS } from './http/requests.ts';
import { TCP_TRAFFIC } from './tcp/traffic.ts';

/** In the order of the dashboards. */
export const REQUEST_PROTOCOLS: readonly RequestProtocol[] = [HTTP_REQUESTS];
export const TRANSPORTS: readonly TransportTraffic[] = [TCP_TRAFFIC];
