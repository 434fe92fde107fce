/**
 * Machines in virtual time that compute in real time: each has one core, which is busy for as long as the work that was
 * really done for it took. So a network of a hundred machines runs in one thread, and its clock shows what a hundred
 * machines would show.
 *
 * How: events are handled one after another in the order of virtual time. The processor time that this thread spends on
 * an event (`process.threadCpuUsage`, which other processes do not inflate) is the time for which the machine is busy:
 * what else happens to that machine meanwhile waits, and what the event sends or schedules counts from its end.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../node/consensus/clock.ts';
import { EventQueue, type QueuedEvent } from '../../test/simulation/event-queue.ts';

interface Event extends QueuedEvent {
  readonly machine: Machine;
  readonly callback: () => void;
  /** Changes only while the event is not queued. */
  atMs: number;
  cancelled: boolean;
}

/** One machine. */
export class Machine implements Clock {
  readonly #machines: Machines;
  /** Virtual time until which the core is busy. */
  busyUntilMs = 0;
  /** Processor time used so far. */
  cpuMs = 0;

  constructor(machines: Machines) {
    this.#machines = machines;
  }

  nowMs(): number {
    return this.#machines.nowMs;
  }

  schedule(delayMs: number, callback: () => void): () => void {
    return this.#machines.schedule(this, delayMs, callback);
  }

  /** Counts processor time that this machine would need and that was spent elsewhere: for work done once for all. */
  charge(cpuMs: number): void {
    this.#machines.charge(cpuMs);
  }
}

/** See the head of this file. */
export class Machines {
  /** Start of the event that is handled now. */
  nowMs: number;
  readonly #events = new EventQueue<Event>();
  #order = 0;
  #chargedMs = 0;
  /** What the present event scheduled; it counts from the event's end, which is not known yet. */
  #outbox: Event[] | undefined;

  constructor(startMs: number) {
    this.nowMs = startMs;
  }

  charge(cpuMs: number): void {
    this.#chargedMs += cpuMs;
  }

  schedule(machine: Machine, delayMs: number, callback: () => void): () => void {
    const atMs = this.nowMs + Math.max(0, delayMs);
    const event: Event = { machine, callback, atMs, order: this.#order++, cancelled: false };
    if (this.#outbox === undefined) this.#events.push(event);
    else this.#outbox.push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Runs until the condition holds (true) or the virtual time is over (false). */
  async runUntil(condition: () => boolean, limitMs: number, signal: AbortSignal): Promise<boolean> {
    const endMs = this.nowMs + limitMs;
    await nextTurn();
    while (!condition()) {
      signal.throwIfAborted();
      const event = this.#events.pop();
      if (event === undefined || event.atMs > endMs) return false;
      if (event.cancelled) continue;
      const { machine } = event;
      if (machine.busyUntilMs > event.atMs) {
        // Keeps its place among those that wait for this machine: the order is that of arrival.
        event.atMs = machine.busyUntilMs;
        this.#events.push(event);
        continue;
      }
      this.nowMs = event.atMs;
      this.#outbox = [];
      this.#chargedMs = 0;
      const before = process.threadCpuUsage();
      event.callback();
      // All that follows without waiting belongs to the event.
      await nextTurn();
      const { user, system } = process.threadCpuUsage(before);
      const cpuMs = (user + system) / 1000 + this.#chargedMs;
      machine.cpuMs += cpuMs;
      machine.busyUntilMs = event.atMs + cpuMs;
      const sent = this.#outbox;
      this.#outbox = undefined;
      for (const later of sent) {
        later.atMs += cpuMs;
        this.#events.push(later);
      }
    }
    return true;
  }
}
