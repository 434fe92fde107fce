/** Entry of the process that tries a device. Started by `probe.ts`; answers with one message and ends. */
import { type DeviceMeasurement, measureDevice, type ProbeRequest } from './measure.ts';

/** What the child answers. */
export type ProbeAnswer = { readonly measured: DeviceMeasurement } | { readonly failure: string };

async function answer(request: ProbeRequest): Promise<void> {
  let reply: ProbeAnswer;
  try {
    reply = { measured: await measureDevice(request) };
  } catch (error) {
    reply = { failure: (error as Error).message };
  }
  // Some drivers crash while they are unloaded; the answer is out by then.
  process.send?.(reply, () => process.exit(0));
}

process.once('message', (request: ProbeRequest) => void answer(request));
// A parent that dies leaves nothing behind.
process.once('disconnect', () => process.exit(0));
