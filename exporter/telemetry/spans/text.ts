// Text from the network or from processes, made fit for span attributes and terminals.

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Well-formed Unicode without control and direction-override characters, at most `limit` UTF-16 units. */
export function cleanText(value: string, limit: number): string {
  const cut = value.length > limit ? value.slice(0, limit) : value;
  return cut.toWellFormed().replace(UNPRINTABLE, '\ufffd');
}

/** A path without query and fragment: those never leave the host, whatever a probe hands over. */
export function cleanPath(value: string, limit: number): string {
  const end = value.search(/[?#]/);
  return cleanText(end < 0 ? value : value.slice(0, end), limit);
}
