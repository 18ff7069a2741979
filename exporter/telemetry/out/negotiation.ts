// Which exposition a client wants: format by `Accept`, compression by `Accept-Encoding` (RFC 9110, sections 12.5.1
// and 12.5.3, q-values included). Called by the server.

export type Format = 'text' | 'openmetrics';

export const CONTENT_TYPE: Readonly<Record<Format, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

interface Choice {
  readonly value: string;
  readonly params: ReadonlyMap<string, string>;
  readonly q: number;
}

/** The choices of a header field; malformed ones are skipped. At most 64 are looked at. */
function choices(field: string): Choice[] {
  return field
    .slice(0, 4096)
    .split(',', 64)
    .flatMap((item) => {
      const [value = '', ...rest] = item.split(';').map((part) => part.trim().toLowerCase());
      if (value === '') return [];
      const params = new Map(
        rest.map((param): [string, string] => {
          const [name = '', text = ''] = param.split('=', 2);
          return [name.trim(), text.trim().replace(/^"|"$/g, '')];
        }),
      );
      const q = params.has('q') ? Number(params.get('q')) : 1;
      return [{ value, params, q: q >= 0 && q <= 1 ? q : 0 }];
    });
}

/**
 * The format for an `Accept` field. OpenMetrics only where it is named, and not less wanted than text; text otherwise,
 * even when neither is accepted (as other exporters do: a wrong `Accept` must not blind the monitoring).
 */
export function negotiateFormat(accept: string | undefined): Format {
  let openmetrics = 0;
  let text = 0;
  for (const { value, params, q } of choices(accept ?? '')) {
    const version = params.get('version');
    if (value === 'application/openmetrics-text') {
      if (version === undefined || version === '1.0.0' || version === '0.0.1')
        openmetrics = Math.max(openmetrics, q);
    } else if (value === 'text/plain' || value === 'text/*' || value === '*/*') {
      if (version === undefined || version === '0.0.4') text = Math.max(text, q);
    }
  }
  return openmetrics > 0 && openmetrics >= text ? 'openmetrics' : 'text';
}

/** Whether to compress with gzip for an `Accept-Encoding` field. */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const all = choices(acceptEncoding ?? '');
  const named = all.filter(({ value }) => value === 'gzip' || value === 'x-gzip');
  const relevant = named.length > 0 ? named : all.filter(({ value }) => value === '*');
  return relevant.some(({ q }) => q > 0);
}
