// The seam between the pipeline and the wire: one call per batch and try.

import type { ReadableSpan } from '@opentelemetry/sdk-trace';

/** What became of one export. Expected failures are values; `send` never rejects. */
export type SendResult =
  /** The receiver answered OK and refused `rejected` spans of the batch for good (OTLP partial success). */
  | { readonly outcome: 'delivered'; readonly rejected: number; readonly message: string }
  /** Worth trying again; `retryAfterMillis` is the receiver's wish (google.rpc.RetryInfo). */
  | {
      readonly outcome: 'retryable';
      readonly message: string;
      readonly retryAfterMillis?: number | undefined;
    }
  /** Trying again cannot help. */
  | { readonly outcome: 'refused'; readonly message: string };

/** A batch ready to send, serialised once and sent as often as needed. */
export interface PreparedBatch {
  readonly bytes: number;
  send(): Promise<SendResult>;
}

/** Sends batches to one receiver. */
export interface SpanTransport {
  /** Serialises; throws only when a span cannot be serialised. */
  prepare(spans: readonly ReadableSpan[]): PreparedBatch;
  /** Cancels what is in flight and closes the connection. Closing twice is safe. */
  close(): void;
}
