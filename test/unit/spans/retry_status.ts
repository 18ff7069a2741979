// Builds the google.rpc.Status with RetryInfo that a receiver sends in `grpc-status-details-bin`.

import protobuf from 'protobufjs';

const root = protobuf.parse(
  `
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Help { string text = 1; }
`,
  { keepCase: true },
).root;

function encode(type: string, value: object): Buffer {
  const message = root.lookupType(type);
  return Buffer.from(message.encode(message.fromObject(value)).finish());
}

/** UNAVAILABLE with another detail before the RetryInfo. */
export function statusWithRetry(seconds: number, nanos: number): Buffer {
  return encode('Status', {
    code: 14,
    message: 'busy',
    details: [
      { type_url: 'type.googleapis.com/google.rpc.Help', value: encode('Help', { text: 'x' }) },
      {
        type_url: 'type.googleapis.com/google.rpc.RetryInfo',
        value: encode('RetryInfo', { retry_delay: { seconds, nanos } }),
      },
    ],
  });
}
