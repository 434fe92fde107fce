/**
 * Bytes on the wire, counted where libp2p offers it: its metrics hook shows every connection before encryption, so
 * what is counted is what the TCP socket carries (handshakes, ciphertext and multiplexing included, TCP/IP headers not).
 */
import type {
  Counter,
  CounterGroup,
  Histogram,
  HistogramGroup,
  Metric,
  MetricGroup,
  Metrics,
  MultiaddrConnection,
  Summary,
  SummaryGroup,
} from '@libp2p/interface';

/** Totals since the network was created. */
export interface TrafficTotals {
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** The method through which a transport hands over what came in; every libp2p connection class has it. */
interface ReceivingConnection {
  onData(data: { byteLength: number }): void;
}

function isReceiving(connection: unknown): connection is ReceivingConnection {
  return typeof connection === 'object' && connection !== null && 'onData' in connection;
}

const nothing = () => {};
const stopTimer = () => nothing;
const silentMetric = {
  update: nothing,
  increment: nothing,
  decrement: nothing,
  reset: nothing,
  observe: nothing,
  timer: stopTimer,
};

/**
 * libp2p `Metrics` that count traffic and ignore all other measurements. A listener on the connection's `message` event
 * would be the obvious way to count what comes in, but it would take data from a handshake that has not attached its
 * own listener yet; so the transport's entry point is wrapped instead.
 */
export class TrafficMeter implements Metrics {
  #sent = 0;
  #received = 0;

  totals(): TrafficTotals {
    return { bytesSent: this.#sent, bytesReceived: this.#received };
  }

  trackMultiaddrConnection(connection: MultiaddrConnection): void {
    const send = connection.send.bind(connection);
    connection.send = (data) => {
      this.#sent += data.byteLength;
      return send(data);
    };
    if (isReceiving(connection)) {
      const onData = connection.onData.bind(connection);
      connection.onData = (data) => {
        this.#received += data.byteLength;
        onData(data);
      };
    }
  }

  trackProtocolStream(): void {}
  registerMetric(): Metric {
    return silentMetric;
  }
  registerMetricGroup(): MetricGroup {
    return silentMetric;
  }
  registerCounter(): Counter {
    return silentMetric;
  }
  registerCounterGroup(): CounterGroup {
    return silentMetric;
  }
  registerHistogram(): Histogram {
    return silentMetric;
  }
  registerHistogramGroup(): HistogramGroup {
    return silentMetric;
  }
  registerSummary(): Summary {
    return silentMetric;
  }
  registerSummaryGroup(): SummaryGroup {
    return silentMetric;
  }
  traceFunction<F>(_name: string, fn: F): F {
    return fn;
  }
  createTrace(): undefined {
    return undefined;
  }
}
