// Samples of duration histograms as an agent exposes them, between shop and cart on port 8080.
export const EDGE_LABELS =
  'client_workload="shop",client_namespace="prod",client_kind="Deployment",server_workload="cart",' +
  'server_namespace="prod",server_kind="StatefulSet",server_port="8080",transport="tcp"';

/** `cumulative`: upper bound → requests up to there. */
export function series(
  name: string,
  reporter: 'client' | 'server',
  more: string,
  cumulative: Readonly<Record<string, number>>,
  scale: number,
): string[] {
  const labels = `reporter="${reporter}",${EDGE_LABELS}${more && `,${more}`}`;
  const total = Math.max(...Object.values(cumulative)) * scale;
  return [
    ...Object.entries({ ...cumulative, '+Inf': total / scale }).map(
      ([le, value]) => `${name}_bucket{${labels},le="${le}"} ${value * scale}`,
    ),
    `${name}_count{${labels}} ${total}`,
  ];
}
